"""SDP (RFC 8866) as text: its lines, its media, and of a medium only what aiortc understands."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

LARGEST: Final = 64 << 10  # bytes; a browser's offer is about 6 kB
MOST_LINES: Final = 1000
LONGEST_LINE: Final = 4 << 10  # characters

PROFILE: Final = "UDP/TLS/RTP/SAVPF"

_MEDIUM: Final = re.compile(r"m=([a-z]{1,32}) ([0-9]{1,5})(?:/[0-9]{1,5})? ([A-Z/]{1,32}) (.+)")
_PROFILES: Final = frozenset({PROFILE, "TCP/DTLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF"})
_CONTROL: Final = re.compile(r"[^\r\n\t\x20-\x7e]")

_PAYLOAD: Final = re.compile(r"[0-9]{1,3}")
_RTPMAP: Final = re.compile(r"([0-9]{1,3}) ([A-Za-z0-9._+-]{1,64})/([0-9]{1,6})(?:/([0-9]{1,2}))?")
_FMTP: Final = re.compile(r"([0-9]{1,3}) (.{1,1000})")
_EXTMAP: Final = re.compile(r"([0-9]{1,5})(?:/[a-z]+)? ([\x21-\x7e]{1,255})(?: .*)?")
_SSRC: Final = re.compile(r"([0-9]{1,10})(?: .*)?")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")

# aiortc reads the values of these as numbers (sdp.py, FMTP_INT_PARAMETERS).
_NUMBERS: Final = frozenset(
    {"apt", "max-fr", "max-fs", "maxplaybackrate", "minptime", "stereo", "useinbandfec"}
)
_FEEDBACK: Final = frozenset({"nack", "nack pli", "ccm fir", "goog-remb", "transport-cc"})
_RTCP_PAYLOADS: Final = range(72, 77)  # with rtcp-mux these would be taken for RTCP (RFC 5761)
_LARGEST_PAYLOAD: Final = 127
_LARGEST_EXTENSION: Final = 255
_LARGEST_SSRC: Final = 2**32 - 1
_MOST_SSRCS: Final = 32


class SdpError(ValueError):
    """Text that is no SDP; the message is one sentence."""


@dataclass(slots=True)
class Section:
    """A medium of an SDP, or what comes before the first one.

    Attributes:
        kind: ``audio``, ``video`` …; empty before the first medium.
        port: 0 for one that is turned off, or comes by another's transport (``bundle-only``).
        secure: whether it is RTP over DTLS.
        formats: the numbers or names at the end of the m-line.
        attributes: names and values of the ``a=`` lines, in order.
    """

    kind: str = ""
    port: int = 0
    secure: bool = True
    formats: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        """The values of an attribute, in order."""
        return [value for key, value in self.attributes if key == name]

    def has(self, name: str) -> bool:
        """Whether there is such an attribute."""
        return any(key == name for key, _ in self.attributes)


def read_lines(body: bytes) -> list[str]:
    """The lines of an SDP or of a fragment of one; empty ones are left out.

    Raises:
        SdpError: the text is not ASCII, or has too many lines or too long ones.
    """
    if not body.isascii() or _CONTROL.search(text := body.decode("ascii")):
        raise SdpError("The body is not plain ASCII text.")
    lines = [line.rstrip() for line in re.split(r"\r\n|\r|\n", text)]
    lines = [line for line in lines if line]
    if len(lines) > MOST_LINES or any(len(line) > LONGEST_LINE for line in lines):
        raise SdpError(
            f"The body has more than {MOST_LINES} lines, or lines longer than"
            f" {LONGEST_LINE >> 10} kB."
        )
    return lines


def split(lines: list[str]) -> tuple[Section, list[Section]]:
    """What comes before the first m-line, and the media.

    Raises:
        SdpError: an m-line is malformed.
    """
    before = current = Section()
    media: list[Section] = []
    for line in lines:
        if line.startswith("m="):
            found = _MEDIUM.fullmatch(line)
            if found is None:
                raise SdpError("An m-line is malformed.")
            kind, port, profile, formats = found.groups()
            current = Section(kind, int(port), profile in _PROFILES, formats.split())
            media.append(current)
        elif line.startswith("a="):
            name, _, value = line[2:].partition(":")
            current.attributes.append((name, value))
    return before, media


def rtp_lines(medium: Section) -> tuple[list[str], set[str]]:
    """What of a medium's RTP aiortc understands, in lines it can't stumble over.

    Returns:
        The lines ``m=…``, then ``a=rtpmap``, ``fmtp``, ``rtcp-fb``, ``extmap`` and ``ssrc``; and
        the codecs as ``name/clock rate`` in small letters.

    Raises:
        SdpError: one of them is malformed.
    """
    payloads = _payloads(medium)
    codecs: dict[str, str] = {}
    for value in medium.values("rtpmap"):
        found = _RTPMAP.fullmatch(value)
        if found is None or found[1] in codecs:
            raise SdpError("An rtpmap is malformed.")
        if found[1] in payloads:
            codecs[found[1]] = value
    if not codecs:
        raise SdpError("A medium has no codec.")
    lines = [f"m={medium.kind} 9 {PROFILE} {' '.join(codecs)}"]
    lines += [f"a=rtpmap:{value}" for value in codecs.values()]
    lines += _fmtp_lines(medium, codecs)
    lines += _feedback_lines(medium, codecs)
    lines += _extension_lines(medium)
    lines += _ssrc_lines(medium)
    names = {"/".join(value.split(" ")[1].split("/")[:2]).lower() for value in codecs.values()}
    return lines, names


def _payloads(medium: Section) -> set[str]:
    for text in medium.formats:
        if not _PAYLOAD.fullmatch(text) or int(text) > _LARGEST_PAYLOAD:
            raise SdpError("An m-line has a payload type that is none.")
    return {text for text in medium.formats if int(text) not in _RTCP_PAYLOADS}


def _fmtp_lines(medium: Section, codecs: dict[str, str]) -> list[str]:
    lines = {}
    for value in medium.values("fmtp"):
        found = _FMTP.fullmatch(value)
        if found is None:
            raise SdpError("An fmtp is malformed.")
        settings = [setting.strip() for setting in found[2].split(";")]
        for setting in settings:
            name, _, number = setting.partition("=")
            if "=" in setting and name in _NUMBERS and not _NUMBER.fullmatch(number):
                raise SdpError("A number of an fmtp is malformed.")
        if found[1] in codecs:
            lines[found[1]] = f"a=fmtp:{found[1]} {';'.join(settings)}"
    return [*lines.values()]


def _feedback_lines(medium: Section, codecs: dict[str, str]) -> list[str]:
    lines = []
    for value in medium.values("rtcp-fb"):
        payload, _, feedback = value.partition(" ")
        if (payload == "*" or payload in codecs) and feedback in _FEEDBACK:
            lines.append(f"a=rtcp-fb:{value}")
    return [*dict.fromkeys(lines)]


def _extension_lines(medium: Section) -> list[str]:
    lines: dict[int, str] = {}
    for value in medium.values("extmap"):
        found = _EXTMAP.fullmatch(value)
        if found is None:
            raise SdpError("An extmap is malformed.")
        if 1 <= int(found[1]) <= _LARGEST_EXTENSION:
            lines.setdefault(int(found[1]), f"a=extmap:{int(found[1])} {found[2]}")
    return [*lines.values()]


def _ssrc_lines(medium: Section) -> list[str]:
    """One line for each source: aiortc looks only at which there are."""
    sources: dict[int, None] = {}
    for value in medium.values("ssrc"):
        found = _SSRC.fullmatch(value)
        if found is None or int(found[1]) > _LARGEST_SSRC:
            raise SdpError("An ssrc is malformed.")
        sources[int(found[1])] = None
    if len(sources) > _MOST_SSRCS:
        raise SdpError(f"A medium has more than {_MOST_SSRCS} sources.")
    return [f"a=ssrc:{source} cname:-" for source in sources]
