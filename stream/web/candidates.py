"""ICE candidates (RFC 8839, section 5.1), looked at before any WebRTC library sees them.

A library sends checks to whatever address a candidate names, and looks names up. So only addresses
that a peer in another place may have are let through.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final

MOST_CANDIDATES: Final = 50  # of one offer or fragment; browsers send up to about 20

_CANDIDATE: Final = re.compile(
    r"candidate:(?P<foundation>[A-Za-z0-9+/]{1,32}) (?P<component>[0-9]{1,3})"
    r" (?P<transport>[A-Za-z0-9-]{1,16}) (?P<priority>[0-9]{1,10}) (?P<address>[^ ]{1,255})"
    r" (?P<port>[0-9]{1,5}) typ (?P<type>[a-z0-9-]{1,16})(?: [^ ]+ [^ ]+)*"
)
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_TYPES: Final = ("host", "srflx", "relay")
_LARGEST_PRIORITY: Final = 2**31 - 1
_LEAST_PORT: Final = 1024  # below are services that should get no checks; no peer has such a port
_LARGEST_PORT: Final = 65535
_THIS_NETWORK: Final = IPv4Network("0.0.0.0/8")


def clean_candidate(line: str, *, allow_loopback: bool = False) -> str | None:
    """A candidate as it may be handed on.

    Args:
        line: ``candidate:…``, without ``a=``.
        allow_loopback: whether addresses of this computer itself are let through.

    Returns:
        The same without what a peer does not need to know; None for one that is not to be used:
        TCP, RTCP of its own, a name (``.local`` ones too), or an address that is loopback,
        link-local, multicast, unspecified or reserved.

    Raises:
        ValueError: the line is malformed.
    """
    found = _CANDIDATE.fullmatch(line)
    if found is None:
        raise ValueError("A candidate is malformed.")
    priority, port = int(found["priority"]), int(found["port"])
    if not 1 <= priority <= _LARGEST_PRIORITY or port > _LARGEST_PORT:
        raise ValueError("A candidate's priority or port is out of range.")
    address = _address(found["address"])
    if (
        address is None
        or found["transport"].lower() != "udp"
        or found["component"] != "1"
        or found["type"] not in _TYPES
        or port < _LEAST_PORT
        or not _is_usable(address, allow_loopback)
    ):
        return None
    return f"candidate:{found['foundation']} 1 udp {priority} {address} {port} typ {found['type']}"


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """None for a name."""
    try:
        address = ip_address(text)
    except ValueError:
        if _HOST_NAME.fullmatch(text):
            return None
        raise ValueError("A candidate's address is malformed.") from None
    return getattr(address, "ipv4_mapped", None) or address


def _is_usable(address: IPv4Address | IPv6Address, allow_loopback: bool) -> bool:
    if address.is_loopback:
        return allow_loopback
    return not (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or address in _THIS_NETWORK
        or getattr(address, "scope_id", None)
    )
