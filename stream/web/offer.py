"""An offer (RFC 9429), looked at before any WebRTC library sees it.

Of an offer only what aiortc reads is handed on, written anew, so that its parser meets nothing that
it does not expect. All media come by one transport (BUNDLE): its parameters are written beside each
medium, wherever in the offer they stood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from stream.web.candidates import MOST_CANDIDATES, clean_candidate
from stream.web.sdp import LARGEST, SdpError, Section, read_lines, rtp_lines, split

__all__ = [
    "LARGEST_OFFER",
    "MOST_CANDIDATES",
    "MOST_SECTIONS",
    "Offer",
    "OfferError",
    "Role",
    "read_offer",
]

Role = Literal["viewer", "publisher"]
"""Who offers: one who receives (WHEP), or one who sends (WHIP)."""

LARGEST_OFFER: Final = LARGEST
MOST_SECTIONS: Final = 4

_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
_TAKEN: Final[dict[Role, tuple[str, ...]]] = {
    "viewer": ("recvonly",),
    "publisher": ("sendonly", "sendrecv"),
}
_CODECS: Final = {"audio": {"opus/48000"}, "video": {"vp8/90000", "h264/90000"}}
_DIGEST_BYTES: Final = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_SETUPS: Final = ("actpass", "active", "passive")
_MID: Final = re.compile(r"[\x21\x23-\x27\x2a\x2b\x2d\x2e0-9A-Z\x5e-\x7e]{1,64}")  # a token
_UFRAG: Final = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD: Final = re.compile(r"[A-Za-z0-9+/]{22,256}")
_FINGERPRINT: Final = re.compile(r"([A-Za-z0-9-]{1,32}) ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*)")
_MOST_FINGERPRINTS: Final = 8


@dataclass(frozen=True, slots=True)
class Offer:
    """What a peer offers.

    Attributes:
        sdp: for aiortc, with CRLF line ends. It always has one BUNDLE, and no directions but
            ``recvonly`` (a viewer's) or ``sendonly`` (a publisher's).
        kinds: ``video``, ``audio`` or both, in the order of the offer.
        mids: of the same media.
        mid: of the medium whose transport all use.
        ufrag: of the peer's ICE; another one begins an ICE restart.
    """

    sdp: str
    kinds: tuple[str, ...]
    mids: tuple[str, ...]
    mid: str
    ufrag: str


class OfferError(Exception):
    """An offer that is not taken.

    Args:
        status: the HTTP status that says so.
        message: one sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_offer(
    body: bytes,
    role: Role = "viewer",
    *,
    kinds: tuple[str, ...] = ("audio", "video"),
    keep_addresses: bool = False,
    allow_loopback: bool = False,
) -> Offer:
    """The offer in a request, if it is one that can be taken.

    Args:
        body: of the request.
        role: who offers.
        kinds: the media that may be offered, each once at most.
        keep_addresses: whether the peer's candidates are handed on, as far as ``clean_candidate``
            lets them through. Where not, the peer has to call us at our addresses, which tells us
            its own; then no offer can make this program send anything to an address of its choice.
        allow_loopback: whether candidates on this computer are let through.

    Raises:
        OfferError: it is too large (413), malformed (400) or asks for something else (422).
    """
    if len(body) > LARGEST_OFFER:
        raise OfferError(413, f"The offer is larger than {LARGEST_OFFER >> 10} kB.")
    try:
        lines = read_lines(body)
        if not lines or lines[0] != "v=0":
            raise SdpError("The body is no SDP offer: it has to begin with v=0.")
        before, media = split(lines)
        if not 1 <= len(media) <= MOST_SECTIONS:
            raise SdpError(f"An offer has 1 to {MOST_SECTIONS} m-lines, not {len(media)}.")
        if sum(len(medium.values("candidate")) for medium in media) > MOST_CANDIDATES:
            raise SdpError(f"An offer has at most {MOST_CANDIDATES} candidates.")
        _check_media(role, kinds, before, media)
        mids, bundle = _bundle(before, media)
        carrier = media[mids.index(bundle[0])]
        transport = _transport(before, carrier)
        addresses = _addresses(before, media, carrier, allow_loopback) if keep_addresses else []
        text = ["v=0", "o=- 0 0 IN IP4 0.0.0.0", "s=-", "t=0 0"]
        text += ["a=ice-lite"] * before.has("ice-lite")
        text.append(f"a=group:BUNDLE {' '.join(bundle)}")
        for mid, medium in zip(mids, media, strict=True):
            text += _medium(medium, mid, _TAKEN[role][0], transport)
            text += addresses if medium is carrier else []
    except SdpError as error:
        raise OfferError(400, str(error)) from error
    return Offer(
        sdp="\r\n".join(text) + "\r\n",
        kinds=tuple(medium.kind for medium in media),
        mids=tuple(mids),
        mid=bundle[0],
        ufrag=_one(before, carrier, "ice-ufrag", _UFRAG),
    )


def _check_media(
    role: Role, allowed: tuple[str, ...], before: Section, media: list[Section]
) -> None:
    kinds = [medium.kind for medium in media]
    if any(kind not in allowed for kind in kinds) or len(set(kinds)) < len(kinds):
        wanted = " and ".join(f"one {kind}" for kind in sorted(allowed, reverse=True))
        raise OfferError(422, f"Offer at most {wanted}, and nothing else.")
    taken = _TAKEN[role]
    for medium in media:
        if not medium.secure:
            raise OfferError(422, f"The {medium.kind} has to be offered as RTP over DTLS.")
        off = medium.port == 0 and not medium.has("bundle-only")
        if off or _direction(before, medium) not in taken:
            raise OfferError(422, f"The {medium.kind} has to be offered as {' or '.join(taken)}.")


def _direction(before: Section, medium: Section) -> str:
    """The medium's own, else the session's, else ``sendrecv`` (RFC 8866, section 6.7)."""
    for section in (medium, before):
        found = {name for name, value in section.attributes if name in _DIRECTIONS and not value}
        if len(found) > 1:
            raise SdpError("A medium is offered in two directions.")
        if found:
            return found.pop()
    return "sendrecv"


def _bundle(before: Section, media: list[Section]) -> tuple[list[str], list[str]]:
    """The media's mids, in their order and in that of the BUNDLE."""
    mids = [mid for medium in media for mid in medium.values("mid")]
    if (
        any(len(medium.values("mid")) != 1 for medium in media)
        or len(set(mids)) < len(mids)
        or not all(_MID.fullmatch(mid) for mid in mids)
    ):
        raise SdpError("Every m-line needs one mid of its own.")
    groups = [value.split() for value in before.values("group")]
    bundles = [group[1:] for group in groups if group[:1] == ["BUNDLE"]]
    if not bundles and len(mids) == 1:
        return mids, mids
    if len(bundles) != 1 or sorted(bundles[0]) != sorted(mids):
        raise OfferError(422, "All media have to be in one BUNDLE.")
    return mids, bundles[0]


def _transport(before: Section, carrier: Section) -> list[str]:
    """The transport's parameters, as lines of a medium.

    Media that come by another's transport need not repeat them (RFC 9143, section 7.1.3).
    """
    if not carrier.has("rtcp-mux"):
        raise OfferError(422, f"The {carrier.kind} has to be offered with rtcp-mux.")
    lines = [
        "a=rtcp-mux",
        f"a=ice-ufrag:{_one(before, carrier, 'ice-ufrag', _UFRAG)}",
        f"a=ice-pwd:{_one(before, carrier, 'ice-pwd', _PASSWORD)}",
    ]
    fingerprints = carrier.values("fingerprint") or before.values("fingerprint")
    if len(fingerprints) > _MOST_FINGERPRINTS:
        raise SdpError(f"An offer has at most {_MOST_FINGERPRINTS} fingerprints.")
    known = []
    for value in fingerprints:
        found = _FINGERPRINT.fullmatch(value)
        if found is None:
            raise SdpError("A fingerprint is malformed.")
        method, digest = found[1].lower(), found[2].upper()
        if method in _DIGEST_BYTES:
            if len(digest.split(":")) != _DIGEST_BYTES[method]:
                raise SdpError("A fingerprint is malformed.")
            known.append(f"a=fingerprint:{method} {digest}")
    if not known:
        raise OfferError(422, "The offer needs a fingerprint by SHA-256 or better.")
    setup = (carrier.values("setup") or before.values("setup"))[:1]
    if not setup or setup[0] not in _SETUPS:
        raise SdpError(f"The setup has to be one of {', '.join(_SETUPS)}.")
    return [*lines, *known, f"a=setup:{setup[0]}"]


def _one(before: Section, carrier: Section, name: str, pattern: re.Pattern[str]) -> str:
    found = carrier.values(name) or before.values(name)
    if len(found) != 1 or not pattern.fullmatch(found[0]):
        raise SdpError(f"The offer needs one {name}, as RFC 8839 has it.")
    return found[0]


def _addresses(
    before: Section, media: list[Section], carrier: Section, allow_loopback: bool
) -> list[str]:
    """Candidate lines for the transport that is used.

    A medium with credentials of its own has a transport of its own, which BUNDLE gives up.
    """
    credentials = carrier.values("ice-ufrag") or before.values("ice-ufrag")
    lines: dict[str, None] = {}
    for medium in media:
        same = medium.values("ice-ufrag") in ([], credentials)
        for value in medium.values("candidate"):
            try:
                line = clean_candidate(f"candidate:{value}", allow_loopback=allow_loopback)
            except ValueError as error:
                raise SdpError(str(error)) from error
            if line is not None and same:
                lines[f"a={line}"] = None
    return [*lines]


def _medium(medium: Section, mid: str, direction: str, transport: list[str]) -> list[str]:
    lines, codecs = rtp_lines(medium)
    if not codecs & _CODECS[medium.kind]:
        raise OfferError(422, "Offer video as VP8 or H.264, and audio as Opus.")
    return [*lines, f"a=mid:{mid}", f"a={direction}", *transport]
