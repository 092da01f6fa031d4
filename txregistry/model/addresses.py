"""Addresses of clients, as whatever has a limit for each of them counts them.

May import the standard library.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address


@lru_cache(4096)
def block_of(host: str) -> str:
    """What a client is counted by: its address, or the /64 of one of IPv6, which is one customer's.

    :param host: an address; anything else is counted as it is.
    """
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(found, IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped is not None else str(IPv6Address(int(found) >> 64 << 64))
    return host
