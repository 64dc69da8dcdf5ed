"""A host -> the addresses that may be connected to, in the order to try them.

The last guard before a socket: whatever a configuration or a DNS server says, no connection leads
to a link-local address, where a cloud's metadata service hands out credentials to whoever asks, nor
to the other addresses that clouds have such services at. Loopback is allowed, and with it 0.0.0.0
and ::, which lead there: a model server beside the router is the common case.
"""

import asyncio
import ipaddress
import socket
from itertools import chain, zip_longest

from llm_router.transport.errors import ConnectFailed
from llm_router.transport.origin import Origin

_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local, and the metadata service of most clouds
        "fe80::/10",  # link-local
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure's platform, beside its metadata service
        "192.0.0.192/32",  # Oracle Cloud's older one
        "fd00:ec2::254/128",  # AWS
        "fd00:ec2::23/128",  # AWS, credentials of pods
        "fd20:ce::254/128",  # Google Cloud
    )
)

#: What ends in an IPv4 address that a translator or the kernel would connect to.
_EMBEDDING = tuple(
    ipaddress.ip_network(network)
    for network in (
        "::/96",  # IPv4-compatible, deprecated
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64 of one's own
    )
)


async def resolve(origin: Origin) -> list[str]:
    """The addresses of an origin's host; one that is an address already skips the resolver.

    Raises:
        ConnectFailed: `dns`, the name has none; `refused_address`, it has none that is allowed.
    """
    found = [origin.host] if is_numeric(origin.host) else await _look_up(origin)
    allowed = [address for address in found if not is_refused(address)]
    if not allowed:
        raise ConnectFailed(
            "refused_address",
            f"{origin}: {found[0]} is a link-local or metadata address; point the URL elsewhere",
        )
    return _interleaved(allowed)


def is_numeric(host: str) -> bool:
    """Whether the host needs no resolver."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_refused(address: str) -> bool:
    """Whether no connection may lead to the address, or to the IPv4 address inside it."""
    ip = ipaddress.ip_address(address)
    return any(
        candidate in network
        for candidate in (ip, _inner(ip))
        if candidate is not None
        for network in _REFUSED
    )


def _inner(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if any(ip in network for network in _EMBEDDING):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.sixtofour


async def _look_up(origin: Origin) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise ConnectFailed("dns", f"{origin}: the name has no address ({error})") from error
    addresses = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
    if not addresses:
        raise ConnectFailed("dns", f"{origin}: the name has no address")
    return list(addresses)


def _interleaved(addresses: list[str]) -> list[str]:
    """Alternates the families, beginning with the resolver's first choice."""
    first = [a for a in addresses if (":" in a) == (":" in addresses[0])]
    other = [a for a in addresses if (":" in a) != (":" in addresses[0])]
    return [a for a in chain.from_iterable(zip_longest(first, other)) if a is not None]
