"""A trickled fragment of an SDP (RFC 8840, section 9): candidates that came after the offer."""

from __future__ import annotations

from dataclasses import dataclass

from stream.relay.refusal import Refusal
from stream.web.candidates import MOST_CANDIDATES, clean_candidate
from stream.web.sdp import SdpError, Section, read_lines, split


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a fragment brings for a session whose media share one transport.

    Attributes:
        candidates: lines ``candidate:…`` for that transport which may be used.
        restarts: whether it begins an ICE restart.
    """

    candidates: tuple[str, ...]
    restarts: bool


def read_fragment(
    body: bytes, *, mid: str, mids: tuple[str, ...], ufrag: str, allow_loopback: bool = False
) -> Fragment:
    """A fragment, if it fits a session.

    Candidates for other media's transports, which BUNDLE gave up, are left out.

    Args:
        body: of the request.
        mid: of the medium whose transport all media use. Candidates of no medium are for it too.
        mids: of all media.
        ufrag: of the client's ICE.
        allow_loopback: whether candidates on this computer are let through.

    Raises:
        Refusal: it is malformed (400).
    """
    try:
        lines = read_lines(body)
        if not lines or any(not line.startswith(("a=", "m=")) for line in lines):
            raise SdpError("The body is no fragment of an SDP.")
        before, media = split(lines)
        sections = [before, *media]
        if sum(len(section.values("candidate")) for section in sections) > MOST_CANDIDATES:
            raise SdpError(f"A fragment has at most {MOST_CANDIDATES} candidates.")
        for medium in media:
            if len(medium.values("mid")) != 1 or medium.values("mid")[0] not in mids:
                raise SdpError("A medium of the fragment has none of the offer's mids.")
        ours = [medium for medium in media if medium.values("mid") == [mid]]
        if not media or before.has("candidate"):
            ours.append(before)
        found = {
            name
            for section in ours
            for name in section.values("ice-ufrag") or before.values("ice-ufrag")
        }
        cleaned = {id(section): _clean(section, allow_loopback) for section in sections}
    except SdpError as error:
        raise Refusal(400, str(error)) from error
    kept = dict.fromkeys(line for section in ours for line in cleaned[id(section)])
    return Fragment(tuple(kept), restarts=bool(found - {ufrag}))


def _clean(section: Section, allow_loopback: bool) -> list[str]:
    try:
        cleaned = [
            clean_candidate(f"candidate:{value}", allow_loopback=allow_loopback)
            for value in section.values("candidate")
        ]
    except ValueError as error:
        raise SdpError(str(error)) from error
    return [line for line in cleaned if line is not None]
