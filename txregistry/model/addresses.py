"""Addresses of clients, as whatever has a limit for each of them counts them, and networks.

May import the standard library.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

Network = IPv4Network | IPv6Network

UNIX = "unix"
"""Stands for whoever connects by a socket in the file system, beside networks."""


@lru_cache(4096)
def block_of(host: str) -> str:
    """What a client is counted by: its address, or the /64 of one of IPv6, which is one customer's.

    :param host: an address; anything else is counted as it is.
    """
    found = read_address(host.partition("%")[0])
    if found is None:
        return host
    if isinstance(found, IPv6Address):
        return str(IPv6Address(int(found) >> 64 << 64))
    return str(found)


def read_address(text: str) -> Address | None:
    """An address; one of IPv4 in the form of IPv6 is one of IPv4. None for anything else."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def read_network(text: str) -> Network:
    """A network such as ``10.0.0.0/8``, or a single address.

    :raises ValueError: with a sentence.
    """
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no address and no network: {error}") from None
