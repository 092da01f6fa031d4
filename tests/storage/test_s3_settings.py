"""The settings of the driver for S3: those of CNCF distribution, and what contradicts itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from txregistry.config.load import ConfigurationMistakes, load
from txregistry.interfaces import IGathering, ILocating, IStorageMaker
from txregistry.plugins import discover
from txregistry.storage.s3 import S3Driver, make_driver
from txregistry.storage.s3_settings import S3Settings
from txregistry.world import StillWorld

DISTRIBUTION_2 = """
version: 0.1
storage:
  s3:
    accesskey: AKIA
    secretkey: hidden
    region: us-west-1
    regionendpoint: http://minio:9000
    bucket: images
    encrypt: true
    keyid: mykey
    secure: true
    v4auth: true
    skipverify: false
    chunksize: 5242880
    multipartcopychunksize: 33554432
    multipartcopymaxconcurrency: 100
    multipartcopythresholdsize: 33554432
    rootdirectory: /some/prefix
    storageclass: REDUCED_REDUNDANCY
    objectacl: bucket-owner-full-control
    useragent: registry
    loglevel: debug
  redirect: {disable: true}
"""

DISTRIBUTION_3 = """
version: 0.1
storage:
  s3: {region: eu-west-1, bucket: images, forcepathstyle: true, usedualstack: true,
       storageclass: NONE, accelerate: false, redirectendpoint: "https://blobs.example"}
"""


def loaded(text: str, tmp_path: Path) -> Any:
    path = tmp_path / "config.yml"
    path.write_text(text)
    return load(path, {}, discover(IStorageMaker).makers)


def made(tmp_path: Path, **settings: Any) -> S3Driver:
    from twisted.internet import reactor

    given = {"bucket": "images", "region": "us-east-1", **settings}
    return make_driver(S3Settings(**given), StillWorld(reactor, tmp_path))


def test_files_of_distribution(tmp_path: Path) -> None:
    found = loaded(DISTRIBUTION_2, tmp_path)
    settings = found.settings.storage.options
    assert (settings.bucket, settings.chunksize, settings.keyid) == ("images", 5242880, "mykey")
    assert found.settings.storage.redirect.disable
    assert found.settings.storage.root is None
    assert any("v4auth" in notice for notice in found.notices)
    assert any("loglevel" in notice for notice in found.notices)
    driver = made(tmp_path, **{
        name: getattr(settings, name) for name in ("regionendpoint", "encrypt", "keyid",
        "storageclass", "objectacl", "rootdirectory", "accesskey", "secretkey")
    })  # fmt: skip
    assert driver.client.written == {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "mykey",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "x-amz-acl": "bucket-owner-full-control",
    }
    assert driver.root == "some/prefix/"
    third = loaded(DISTRIBUTION_3, tmp_path).settings.storage.options
    assert third.redirectendpoint == "https://blobs.example"


def test_styles(tmp_path: Path) -> None:
    def url(**settings: Any) -> str:
        transport = made(tmp_path, **settings).client.transport
        return transport.endpoint.url(transport.bucket, "k")

    assert url() == "https://images.s3.us-east-1.amazonaws.com/k"
    assert url(forcepathstyle=True) == "https://s3.us-east-1.amazonaws.com/images/k"
    assert url(regionendpoint="http://minio:9000") == "http://minio:9000/images/k"
    assert url(regionendpoint="minio", secure=False) == "http://minio/images/k"
    assert url(regionendpoint="minio", forcepathstyle=False) == "https://images.minio/k"
    assert url(accelerate=True) == "https://images.s3-accelerate.amazonaws.com/k"


def test_capabilities_and_defaults(tmp_path: Path) -> None:
    driver = made(tmp_path)
    assert ILocating.providedBy(driver)
    assert IGathering.providedBy(driver)
    assert driver.client.written == {}
    assert driver.root == ""
    assert driver.sessions.copier.threshold == 32 * 1024**2
    assert made(tmp_path, regionendpoint="http://h").sessions.copier.threshold == 5 * 1024**3


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"accesskey": "A"}, "go together"),
        ({"keyid": "k"}, "needs encrypt"),
        ({"regionendpoint": "http://h", "accelerate": True}, "are Amazon's"),
        ({"accelerate": True, "forcepathstyle": True}, "needs forcepathstyle: false"),
        ({"regionendpoint": "ftp://h"}, "no address"),
    ],
)
def test_contradictions(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        made(tmp_path, **settings)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("region: r", "bucket: is required"),
        ("bucket: images", "region: is required"),
        ("{bucket: x/y, region: r}", "is no name of a bucket"),
        ("{bucket: images, region: r, chunksize: 1MiB}", "between 5MiB and 5GiB"),
        ("{bucket: images, region: r, storageclass: GLACIER}", "storageclass"),
        ("{bucket: images, region: r, multipartcopythresholdsize: 6GiB}", "5GiB at most"),
    ],
)
def test_mistakes(tmp_path: Path, line: str, text: str) -> None:
    with pytest.raises(ConfigurationMistakes, match=text):
        loaded(f"version: 0.1\nstorage:\n  s3:\n    {line}\n", tmp_path)


def test_without_the_extra() -> None:
    """The plugin is found without botocore, and says what to install when it is used."""
    program = """
import sys
sys.modules["botocore"] = None
from txregistry.interfaces import IStorageMaker
from txregistry.plugins import discover
found = discover(IStorageMaker)
maker = found.makers["s3"]
try:
    maker.make(maker.settings(bucket="images", region="r"), None)
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'txregistry[s3]'" in done.stdout
