"""Which network addresses a model may come from.

A URI is written by whoever may create the custom resource, and is followed from inside the cluster. Refused
are addresses that serve credentials to whoever asks (the metadata services of clouds) and addresses that mean
the pod itself or its link. Judged is the address that is then connected to, never the name.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

Resolve = Callable[[str, int], Sequence[str]]
"""Turns a host name and port into addresses; raises `socket.gaierror`."""

REFUSED: Final[tuple[tuple[str, str], ...]] = (
    ("0.0.0.0/8", "this host"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, where clouds keep their metadata service"),
    ("100.100.100.200/32", "a metadata service"),
    ("168.63.129.16/32", "a cloud's host agent"),
    ("192.0.0.0/24", "reserved, and a metadata service"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "this host"),
    ("::1/128", "loopback"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
    ("fd00:ec2::/32", "a metadata service"),
    ("fd20:ce::254/128", "a metadata service"),
    ("fd00:c1::a9fe:a9fe/128", "a metadata service"),
    ("fd00:42::42/128", "a metadata service"),
)
"""Networks that are never fetched from, and what they are. Private networks are not among them: models often
stand inside the cluster's own network. 169.254.169.254 serves AWS, Azure, GCP and OpenStack, fd00:ec2::254
AWS, fd20:ce::254 GCP, 100.100.100.200 Alibaba, 192.0.0.192 and fd00:c1::a9fe:a9fe Oracle, fd00:42::42
Scaleway; 168.63.129.16 is Azure's host agent."""

_IN_LOW_BITS: Final = tuple(
    ipaddress.IPv6Network(network) for network in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")
)
"""Networks whose addresses end in an IPv4 address: NAT64 (RFC 6052), compatible ones (RFC 4291), and those of
stateless translation (RFC 2765)."""
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
"""Prefixes of a network's own translators (RFC 8215)."""
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
"""The 32 bits before the IPv4 address in the interface identifiers of RFC 5214."""


class AddressPolicy:
    """Says whether an address may be connected to.

    Parameters
    ----------
    refused:
        Networks that may not, each with what it is.
    """

    def __init__(self, refused: Iterable[tuple[str, str]] = REFUSED) -> None:
        self._refused: list[tuple[IPNetwork, str]] = [
            (ipaddress.ip_network(network), what) for network, what in refused
        ]

    def refusal(self, address: str) -> str | None:
        """Return what `address` is if it is refused, else None.

        An IPv4 address inside an IPv6 one is judged too: the network would unpack it.
        """
        ip = ipaddress.ip_address(address)
        for candidate in (ip, *_embedded(ip)):
            for network, what in self._refused:
                if candidate.version == network.version and candidate in network:
                    return what
        return None


def system_resolve(host: str, port: int) -> list[str]:
    """Return the addresses of `host`, as the system's resolver orders them, each once.

    Raises
    ------
    socket.gaierror
        If the name is unknown, or no name server answers.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _embedded(ip: IPAddress) -> list[IPAddress]:
    """Return the IPv4 addresses that `ip` carries or may carry.

    They are mapped, compatible, translated, 6to4, Teredo, ISATAP and NAT64 addresses.
    """
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    carried: list[IPAddress | None] = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    number = int(ip)
    last = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if any(ip in network for network in _IN_LOW_BITS) or number >> 32 & 0xFFFFFFFF in _ISATAP:
        carried.append(last)
    if ip in _LOCAL_NAT64:
        # The length of the prefix is not known: at a wrong place there are zeros, which lead nowhere.
        places = (last, *(_after_prefix(number, length) for length in (48, 56, 64)))
        carried += [address for address in places if int(address) >> 24]
    return [address for address in carried if address is not None]


def _after_prefix(number: int, length: int) -> ipaddress.IPv4Address:
    """Return the IPv4 address behind a NAT64 prefix of `length` bits, around the byte of zeros at bit 64."""
    without = number >> 64 << 56 | number & (1 << 56) - 1
    return ipaddress.IPv4Address(without >> 120 - length - 32 & 0xFFFFFFFF)
