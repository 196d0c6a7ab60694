"""What payloads say, by real encoders and by hand."""

import pytest
from aiortc.codecs import depayload
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from stream.core.payload import first_and_key
from tests.stream.publishing import picture

pytestmark = pytest.mark.media


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_key_frames_and_first_packets_of_real_encoders(codec: str) -> None:
    parameters = RTCRtpCodecParameters(mimeType=f"video/{codec}", clockRate=90_000, payloadType=96)
    encoder = Vp8Encoder() if codec == "VP8" else H264Encoder()
    for number in range(6):
        payloads, _ = encoder.encode(picture(number), force_keyframe=number == 4)
        marks = [
            first_and_key(codec, payload, depayload(parameters, payload)) for payload in payloads
        ]
        is_key = number in (0, 4)
        assert any(key for _, key in marks) is is_key
        assert not any(first for first, _ in marks[1:])
        if codec == "VP8" or is_key:
            assert marks[0][0]


@pytest.mark.parametrize(
    ("codec", "payload", "data", "expected"),
    [
        pytest.param("VP8", b"", b"", (False, False), id="nothing"),
        pytest.param("VP8", b"\x10", b"", (False, False), id="padding"),
        pytest.param("VP8", b"\x10\x01", b"\x01", (True, False), id="between key frames"),
        pytest.param("VP8", b"\x00\x00", b"\x00", (False, False), id="a later packet"),
        pytest.param("VP8", b"\x11\x00", b"\x00", (False, False), id="a later partition"),
        pytest.param("H264", b"\x65..", b"\0\0\0\1\x65..", (False, True), id="an IDR slice"),
        pytest.param("H264", b"\x7c..", b"..", (False, False), id="a fragment"),
        pytest.param("H264", b"\x61..", b"\0\0\0\1\x61..", (False, False), id="another slice"),
        pytest.param(
            "H264", b"\x78..", b"\0\0\0\1\x67..\0\0\0\1\x68..", (True, True), id="parameter sets"
        ),
    ],
)
def test_payloads_by_hand(
    codec: str, payload: bytes, data: bytes, expected: tuple[bool, bool]
) -> None:
    assert first_and_key(codec, payload, data) == expected
