"""What a packet's payload says about the picture that it is part of."""

from __future__ import annotations

from typing import Final

_VP8_START, _VP8_PARTITION = (
    0x10,
    0x0F,
)  # RFC 7741 §4.2: S bit, and partition index with its reserve
_VP8_INTER: Final = 0x01  # RFC 6386 §9.1: set in all but key frames
_NAL_START: Final = b"\0\0\0\1"
_NAL_TYPE: Final = 0x1F
_IDR, _SPS, _AUD = 5, 7, 9  # NAL unit types, ITU-T H.264 table 7-1


def first_and_key(codec: str, payload: bytes, data: bytes) -> tuple[bool, bool]:
    """Whether a packet is sure to be its picture's first one, and of a key frame.

    Args:
        codec: ``VP8`` or ``H264``.
        payload: of the RTP packet.
        data: what is left of it without the payload descriptor; for H.264 with start codes.
    """
    if not payload or not data:
        return False, False
    if codec == "VP8":
        first = bool(payload[0] & _VP8_START) and not payload[0] & _VP8_PARTITION
        return first, first and not data[0] & _VP8_INTER
    types = _nal_types(data)
    return bool(types & {_SPS, _AUD}), bool(types & {_SPS, _IDR})


def _nal_types(data: bytes) -> set[int]:
    """The types of the NAL units that begin in this packet."""
    types: set[int] = set()
    place = 0 if data.startswith(_NAL_START) else -1
    while 0 <= place < len(data) - len(_NAL_START):
        types.add(data[place + len(_NAL_START)] & _NAL_TYPE)
        place = data.find(_NAL_START, place + len(_NAL_START))
    return types
