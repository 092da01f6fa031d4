"""Where webhooks may go: judged by the address that is connected to, not by the name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Factory

from txregistry.reporters.guard import AddressRefused, CheckedEndpoint, allowed

NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "::169.254.169.254",
    "fd00:ec2::254",
    "100.100.100.200",
]

NOT_PUBLIC = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::1",
    "2001:db8::1",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "100::1",
]

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]


@pytest.mark.parametrize("address", NEVER)
def test_never(address: str) -> None:
    assert not allowed(address, strict=False)
    assert not allowed(address, strict=True)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_only_without_the_guard(address: str) -> None:
    assert allowed(address, strict=False)
    assert not allowed(address, strict=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert allowed(address, strict=True)


@define
class Names:
    """A reactor that resolves every name to the same addresses, and connects to nothing."""

    addresses: Sequence[str]
    asked: list[str] = field(factory=list)
    connected: list[str] = field(factory=list)

    @property
    def nameResolver(self) -> Any:
        return self

    def resolveHostName(self, receiver: Any, host: str, port: int) -> None:
        self.asked.append(host)
        receiver.resolutionBegan(None)
        for each in self.addresses:
            kind = IPv6Address if ":" in each else IPv4Address
            receiver.addressResolved(kind("TCP", each, port))
        receiver.resolutionComplete()

    def connectTCP(self, host: str, port: int, factory: Any, **more: Any) -> None:
        self.connected.append(host)
        factory.clientConnectionFailed(None, OSError("nothing is there"))


async def connected(addresses: Sequence[str], strict: bool) -> tuple[list[str], BaseException]:
    """What is connected to, and the error."""
    names = Names(addresses)
    endpoint = CheckedEndpoint(names, "receiver.example", 80, strict, 5.0)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await endpoint.connect(Factory())
    assert names.asked == ["receiver.example"], "a name is resolved once"
    return names.connected, caught.value


@pytest_twisted.ensureDeferred
async def test_each_address_of_a_name_is_judged() -> None:
    addresses = ["169.254.169.254", "10.0.0.1", "1.1.1.1", "fe80::1"]
    assert (await connected(addresses, False))[0] == ["10.0.0.1", "1.1.1.1"]
    assert (await connected(addresses, True))[0] == ["1.1.1.1"]


@pytest_twisted.ensureDeferred
async def test_a_name_without_a_good_address() -> None:
    found, error = await connected(["169.254.169.254", "127.0.0.1"], True)
    assert found == []
    assert isinstance(error, AddressRefused)
    found, error = await connected([], False)
    assert isinstance(error, AddressRefused)
