"""The settings of the S3 driver, and its maker: light objects for the plugin module.

May import the interfaces and the model's options; the driver is imported when it is made.
"""

from __future__ import annotations

import re
from typing import Any

from attrs import Attribute, frozen, validators
from zope.interface import implementer

from ..interfaces import IStorageMaker, IWorld
from ..model.options import Secret, Size, option

MEBIBYTE = 1024 * 1024
LARGEST_COPY = 5 * 1024 * MEBIBYTE
"""What S3 copies in one request, and the largest part."""

CLASSES = (
    "NONE",
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "OUTPOSTS",
    "GLACIER_IR",
)
ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)


def _chunk(_: Any, attribute: Attribute[int], value: int) -> None:
    if not 5 * MEBIBYTE <= value <= LARGEST_COPY:
        raise ValueError("has to lie between 5MiB and 5GiB, as S3 wants it")


def _copied(_: Any, attribute: Attribute[int], value: int) -> None:
    if value > LARGEST_COPY:
        raise ValueError("has to be 5GiB at most, which is what S3 copies at once")


def _bucket(_: Any, attribute: Attribute[str], value: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", value):
        raise ValueError(f"{value!r} is no name of a bucket")


@frozen
class S3Settings:
    """Settings of the driver for Amazon S3 and what speaks like it."""

    bucket: str = option("The bucket; it has to exist.", validator=_bucket)
    region: str = option("The region of the bucket.", example="eu-central-1")
    regionendpoint: str | None = option(
        "The address of another service than Amazon's.",
        default=None,
        example="https://s3.example:9000",
    )
    redirectendpoint: str | None = option(
        "The address that clients are sent to for blobs, if they reach the service by another one.",
        default=None,
        example="https://blobs.example",
    )
    forcepathstyle: bool | None = option(
        "Write the bucket into the path, not into the host's name. Without it: true with "
        "regionendpoint, false with Amazon.",
        default=None,
        example="true",
    )
    accesskey: str | None = option(
        "The access key. Without it: what the environment, a profile, a web identity, the "
        "container or the instance provides.",
        default=None,
        example="AKIAIOSFODNN7EXAMPLE",
    )
    secretkey: Secret | None = option("The secret key.", default=None, example="secret")
    sessiontoken: Secret | None = option(
        "The token of temporary keys, which end with it; better leave those to the environment.",
        default=None,
        example="token",
    )
    secure: bool = option(
        "Use TLS, where the address does not say whether.",
        default=True,
    )
    skipverify: bool = option("Trust any certificate of the service.", default=False)
    signbodies: bool | None = option(
        "Sign the digests of bodies as well. Without it: where there is no TLS, which keeps bodies "
        "whole by itself; false there costs less on both sides, and leaves what happens to bytes "
        "on the way to be found later.",
        default=None,
        example="true",
    )
    rootdirectory: str = option("A prefix for all keys.", default="", example="registry")
    encrypt: bool = option("Have objects encrypted by the service.", default=False)
    keyid: str | None = option(
        "The KMS key for that. Without it the service's own key is used.",
        default=None,
        example="arn:aws:kms:eu-central-1:111122223333:key/1234abcd",
    )
    storageclass: str = option(
        "The storage class of objects; NONE sends none, for services that know no classes.",
        default="STANDARD",
        validator=validators.in_(CLASSES),
    )
    objectacl: str = option(
        "The canned access list of objects.", default="private", validator=validators.in_(ACLS)
    )
    chunksize: Size = option(
        "The size of the parts that blobs are sent in. Each process keeps three of them in memory, "
        "for all uploads together; more uploads than that send smaller ones. Between 5MiB and "
        "5GiB.",
        default=Size(5 * MEBIBYTE),
        validator=_chunk,
    )
    multipartcopythresholdsize: Size | None = option(
        "Blobs up to this size are copied by one request, larger ones in parts. Without it: 32MiB "
        "with Amazon, which copies parts faster; 5GiB with others.",
        default=None,
        example="32MiB",
        validator=validators.optional(_copied),
    )
    multipartcopychunksize: Size = option(
        "The size of the parts that blobs are copied in, in the service.",
        default=Size(32 * MEBIBYTE),
        validator=_chunk,
    )
    multipartcopymaxconcurrency: int = option(
        "The largest number of parts that are copied at once.",
        default=100,
        validator=validators.ge(1),
    )
    usedualstack: bool = option("Reach Amazon by IPv4 and IPv6.", default=False)
    accelerate: bool = option("Use Amazon's transfer acceleration.", default=False)
    usefipsendpoint: bool = option("Use Amazon's FIPS endpoints.", default=False)
    useragent: str = option("The User-Agent of requests.", default="txregistry")


@implementer(IStorageMaker)
@frozen
class S3Maker:
    """Makes the driver for S3."""

    name: str = "s3"
    summary: str = "Amazon S3 and compatible services, in the layout of CNCF distribution"
    settings: type = S3Settings

    def make(self, settings: S3Settings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        try:
            import botocore
        except ImportError:
            raise ValueError(
                "storage.s3 needs more packages; install them with: pip install 'txregistry[s3]'"
            ) from None
        del botocore
        from .s3 import make_driver

        return make_driver(settings, world)
