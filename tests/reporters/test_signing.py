"""Signatures, beside the example of the specification."""

from __future__ import annotations

import pytest

from txregistry.reporters.signing import key_of, signature


def test_the_example_of_the_specification() -> None:
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signed = signature([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("text", ["", "whsec_", "short", "=====", "ü" * 40, "MTIzNDU2Nzg5MA=="])
def test_what_is_no_secret(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        key_of(text)
