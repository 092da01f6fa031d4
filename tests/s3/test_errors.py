"""Answers of S3 that tell of failures, and the XML that they come in."""

from __future__ import annotations

import pytest

from txregistry.budget import Breaker, Budget
from txregistry.interfaces import ObjectMissing, StorageFull, StorageUnavailable
from txregistry.s3.documents import delete_document, parts_document, read
from txregistry.s3.errors import S3Error, error_from
from txregistry.s3.retries import delay
from txregistry.storage.s3_errors import storage_error, told

NAMESPACED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code>AuthorizationHeaderMalformed</Code>
<Message>the region 'x' is wrong</Message><Region>eu-west-1</Region>
<RequestId>77</RequestId></Error>"""


def test_an_error_with_everything() -> None:
    error = error_from(400, {}, b"\n  " + NAMESPACED)
    assert (error.code, error.status, error.request_id) == (
        "AuthorizationHeaderMalformed",
        400,
        "77",
    )
    text = str(error)
    assert "set storage.s3.region to the region of the bucket" in text
    assert "it is eu-west-1" in text
    assert "[request 77]" in text
    assert error.lasting
    assert not error.retryable


@pytest.mark.parametrize(
    ("status", "headers", "body", "code", "advice"),
    [
        (301, {"x-amz-bucket-region": "eu-west-1"}, b"", "PermanentRedirect", "eu-west-1"),
        (403, {}, b"", "AccessDenied", "s3:PutObject"),
        (404, {}, b"", "NotFound", ""),
        (404, {}, b"<Error><Code>NoSuchBucket</Code></Error>", "NoSuchBucket", "make it"),
        (403, {}, b"<Error><Code>RequestTimeTooSkewed</Code></Error>",
         "RequestTimeTooSkewed", "clock"),
        (403, {}, b"<Error><Code>SignatureDoesNotMatch</Code></Error>",
         "SignatureDoesNotMatch", "secret key"),
        (503, {}, b"not xml", "ServiceUnavailable", ""),
        (418, {}, b"<html></html>", "Status418", ""),
        (200, {}, b"<Error><Code>InternalError</Code></Error>", "InternalError", ""),
    ],
)  # fmt: skip
def test_what_the_operator_is_told(
    status: int, headers: dict[str, str], body: bytes, code: str, advice: str
) -> None:
    error = error_from(status, headers, body)
    assert error.code == code
    assert advice in str(error)
    assert str(status) in str(error)


def test_what_is_tried_again() -> None:
    for code, status, again in (
        ("SlowDown", 503, True),
        ("InternalError", 200, True),
        ("RequestTimeout", 400, True),
        ("Status502", 502, True),
        ("NotImplemented", 501, False),
        ("AccessDenied", 403, False),
        ("NoSuchKey", 404, False),
    ):
        assert S3Error(code, "", status).retryable is again, code


def test_errors_in_the_words_of_the_interface() -> None:
    assert isinstance(storage_error(S3Error("NoSuchKey", "", 404), "k"), ObjectMissing)
    assert isinstance(storage_error(S3Error("QuotaExceeded", "", 403)), StorageFull)
    assert isinstance(storage_error(S3Error("AccessDenied", "", 403)), StorageUnavailable)
    # What nobody asked the existence of has to be there.
    with pytest.raises(StorageUnavailable), told():
        raise S3Error("NoSuchKey", "", 404)
    with pytest.raises(ObjectMissing), told("key"):
        raise S3Error("NoSuchKey", "", 404)


def test_documents() -> None:
    found = read(b'<a xmlns="x"><b>1</b><c/><b>2</b></a>')
    assert found is not None
    assert found.name == "a"
    assert found.text("b") == "1"
    assert found.text("c", "x") == ""
    assert found.text("d", "x") == "x"
    assert [each.name for each in found.all("b")] == ["b", "b"]
    assert read(b"") is None
    assert read(b"<a>") is None
    assert b"&lt;&amp;" in delete_document(["<&"])
    assert b'<PartNumber>1</PartNumber><ETag>"x"</ETag>' in parts_document([(1, '"x"')])


def test_the_budget_of_retries() -> None:
    budget = Budget(room=2, gain=0.5)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    budget.succeeded()
    assert not budget.take()
    budget.succeeded()
    assert budget.take()
    for _ in range(100):
        budget.succeeded()
    assert budget.saved == 2


def test_the_breaker() -> None:
    now = 0.0
    breaker = Breaker(lambda: now, threshold=2, pause=5)
    breaker.failed()
    breaker.answered()
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert breaker.open
    assert not breaker.allows()
    now = 5.0
    assert breaker.allows()
    assert not breaker.allows()
    breaker.failed()
    now = 10.0
    assert breaker.allows()
    breaker.answered()
    assert breaker.allows()
    assert not breaker.open


def test_delays_are_random_below_a_bound() -> None:
    for attempt in range(1, 12):
        found = [delay(attempt) for _ in range(50)]
        assert 0 <= min(found) < max(found) <= min(5.0, 0.1 * 2**attempt)
