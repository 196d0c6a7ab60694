"""Whose packets are followed, and how their numbers count on."""

import pytest

from stream.core.rtp_source import Numbered, RtpSource, nearest

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "reference", "bits", "expected"),
    [
        pytest.param(5, 3, 16, 5, id="no wrap"),
        pytest.param(2, 65_530, 16, 65_538, id="forward over the wrap"),
        pytest.param(65_530, 65_538, 16, 65_530, id="back over the wrap"),
        pytest.param(65_530, 2, 16, -6, id="below zero"),
        pytest.param(7, (5 << 32) - 9, 32, (5 << 32) + 7, id="the fifth wrap of timestamps"),
    ],
)
def test_the_nearest_number_with_these_bits(
    value: int, reference: int, bits: int, expected: int
) -> None:
    assert nearest(value, reference, bits) == expected


def test_numbers_count_on_over_both_wraps_and_back_for_late_packets() -> None:
    source = RtpSource()
    first = source.take(7, 65_534, (1 << 32) - 960, 0.0)
    assert first == Numbered(65_534, (1 << 32) - 960, fresh=True)
    taken = [source.take(7, n % 65_536, (n - 65_535) * 960, 0.1) for n in (65_535, 65_537, 65_536)]
    assert taken == [
        Numbered(n, (1 << 32) + (n - 65_535) * 960, fresh=False) for n in (65_535, 65_537, 65_536)
    ]
    assert source.near(0) == 1 << 32


def test_another_source_is_followed_only_once_the_first_is_silent() -> None:
    source = RtpSource()
    source.take(7, 10, 0, 0.0)
    assert source.take(8, 500, 0, 0.9) is None
    assert source.take(7, 11, 960, 0.9) is not None
    assert source.take(8, 501, 0, 1.8) is None
    taken = source.take(8, 502, 77, 2.0)
    assert taken == Numbered(502, 77, fresh=True)
    assert (source.ssrc, source.foreign) == (8, 2)


def test_one_packet_with_numbers_far_off_is_not_believed_but_two_in_a_row_are() -> None:
    source = RtpSource()
    source.take(7, 10, 0, 0.0)
    assert source.take(7, 30_000, 0, 0.1) is None
    assert source.take(7, 11, 960, 0.1) == Numbered(11, 960, fresh=False)
    assert source.take(7, 30_001, 0, 0.2) is None  # a packet that was expected came in between
    assert source.take(7, 30_002, 5, 0.2) == Numbered(30_002, 5, fresh=True)
    assert source.foreign == 2
