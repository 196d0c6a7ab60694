"""A viewer's offer, looked at before any WebRTC library sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LARGEST_OFFER: Final = 64 << 10  # bytes; a browser's is about 6 kB
MOST_SECTIONS: Final = 4
MOST_CANDIDATES: Final = 50

_KINDS: Final = ("audio", "video")
_CANDIDATES: Final = ("a=candidate:", "a=end-of-candidates")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a viewer offers.

    Attributes:
        sdp: with CRLF line ends and without addresses.
        kinds: ``video``, ``audio`` or both, in the order of the offer.
    """

    sdp: str
    kinds: tuple[str, ...]


class OfferError(Exception):
    """An offer that is not taken.

    Args:
        status: the HTTP status that says so.
        message: one sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_offer(body: bytes) -> Offer:
    """The offer in a request, if it is one for a viewer.

    The viewer's addresses are taken out: it calls us at ours, which tells us its own, so that no
    offer can make this program send anything to an address of its choice, or look one up.

    Args:
        body: of the request.

    Raises:
        OfferError: it is too large (413), malformed (400) or asks for something else (422).
    """
    if len(body) > LARGEST_OFFER:
        raise OfferError(413, f"The offer is larger than {LARGEST_OFFER >> 10} kB.")
    if not body.isascii() or b"\0" in body:
        raise OfferError(400, "The offer is not plain ASCII text.")
    lines = [line.rstrip() for line in body.decode("ascii").splitlines()]
    lines = [line for line in lines if line]
    if not lines or lines[0] != "v=0":
        raise OfferError(400, "The body is no SDP offer: it has to begin with v=0.")
    starts = [n for n, line in enumerate(lines) if line.startswith("m=")]
    if not 1 <= len(starts) <= MOST_SECTIONS:
        raise OfferError(400, f"An offer has 1 to {MOST_SECTIONS} m-lines, not {len(starts)}.")
    if sum(line.startswith(_CANDIDATES[0]) for line in lines) > MOST_CANDIDATES:
        raise OfferError(400, f"An offer has at most {MOST_CANDIDATES} candidates.")
    sections = [lines[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
    kinds = tuple(section[0][2:].split(" ")[0] for section in sections)
    _check_sections(kinds, sections)
    _check_bundle(lines[: starts[0]], sections)
    kept = [line for line in lines if not line.startswith(_CANDIDATES)]
    return Offer("\r\n".join(kept) + "\r\n", kinds)


def _check_sections(kinds: tuple[str, ...], sections: list[list[str]]) -> None:
    if any(kind not in _KINDS for kind in kinds) or len(set(kinds)) < len(kinds):
        raise OfferError(422, "Offer at most one video and one audio, and nothing else.")
    for kind, section in zip(kinds, sections, strict=True):
        directions = {"a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"} & set(section)
        if directions != {"a=recvonly"}:
            raise OfferError(422, f"The {kind} has to be offered as recvonly.")
        if "a=rtcp-mux" not in section:
            raise OfferError(422, f"The {kind} has to be offered with rtcp-mux.")


def _check_bundle(session: list[str], sections: list[list[str]]) -> None:
    mids = [line[6:] for section in sections for line in section if line.startswith("a=mid:")]
    bundles = [line.split(" ")[1:] for line in session if line.startswith("a=group:BUNDLE")]
    if len(mids) != len(sections) or len(set(mids)) < len(mids):
        raise OfferError(400, "Every m-line needs one mid of its own.")
    if len(bundles) != 1 or sorted(bundles[0]) != sorted(mids):
        raise OfferError(422, "All media have to be in one BUNDLE.")
