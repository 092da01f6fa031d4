"""Servers that speak S3, and buckets in them, for tests."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import boto3
import botocore.config
from attrs import define
from running import free_port

REGION = "us-east-1"
KEY, SECRET = "AKIATESTTESTTESTTEST", "secretsecretsecretsecretsecretsecretsecr"

_numbers = itertools.count(1)


@define
class Server:
    """A server that speaks S3."""

    url: str

    def boto(self) -> Any:
        """Amazon's own client, which looks at what we have done."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=botocore.config.Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def bucket(self) -> str:
        """A new bucket."""
        name = f"bucket-{next(_numbers)}-{time.time_ns()}"
        self.boto().create_bucket(Bucket=name)
        return name

    def settings(self, bucket: str, **more: Any) -> dict[str, Any]:
        """The section ``storage.s3`` of a configuration."""
        return {
            "bucket": bucket,
            "region": REGION,
            "regionendpoint": self.url,
            "accesskey": KEY,
            "secretkey": SECRET,
            **more,
        }

    def everything(self, bucket: str) -> list[str]:
        """The keys of all objects, and of multipart uploads that are open."""
        client = self.boto()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
        return keys + [f"unfinished {item['Key']}" for item in uploads]


MOTO = """
import sys
from datetime import UTC, datetime
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3 import models, responses
from werkzeug.serving import run_simple

# For moto every multipart upload was begun in 2010.
begun = {}
begin, answer = models.FakeMultipart.__init__, responses.ActionResult

def begin_now(self, *arguments, **options):
    begin(self, *arguments, **options)
    begun[self.id] = datetime.now(UTC).isoformat()

def answer_truly(result):
    for upload in result.get("Uploads", ()) if isinstance(result, dict) else ():
        upload["Initiated"] = begun[upload["UploadId"]]
    return answer(result)

models.FakeMultipart.__init__, responses.ActionResult = begin_now, answer_truly
application = DomainDispatcherApplication(create_backend_app)
run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=sys.argv[2] == "threaded")
"""


@contextmanager
def moto(patient: bool = False) -> Iterator[Server]:
    """moto's server, which does everything but look at signatures.

    :param patient: whether it does one thing after the other. Otherwise it looks at a condition
        and writes in two steps, between which another request may change what it looked at.
    """
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", MOTO, str(port), "patient" if patient else "threaded"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(f"http://127.0.0.1:{port}")
    try:
        wait_until_it_answers(server.url, process)
        yield server
    finally:
        process.kill()
        process.wait()


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for a server; an answer that says no is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        try:
            urlopen(url, timeout=5).close()
        except URLError as error:
            if getattr(error, "code", None) is not None:
                return
            time.sleep(0.05)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server does not answer")


def merged_settings(settings: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Settings with some replaced."""
    return {**settings, **more}
