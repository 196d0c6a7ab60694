"""Pictures from packets: whole, in order, at once, and never standing for long."""

import random

import pytest

from stream.core.picture_buffer import (
    ASK_AGAIN_S,
    ASK_LOST_S,
    ASK_S,
    GIVE_UP_S,
    MOST_PACKETS,
    Encoded,
    Packet,
    PictureBuffer,
)
from tests.stream.lossy_pictures import LossyPictures

pytestmark = pytest.mark.unit

Numbered = tuple[int, Packet]


def pictures(*counts: int, key: tuple[int, ...] = (0,), marked: bool = True) -> list[Numbered]:
    """The packets of pictures of so many packets each; their data is the picture's number."""
    packets: list[Numbered] = []
    for picture, count in enumerate(counts):
        for part in range(count):
            packet = Packet(
                timestamp=picture * 3600,
                last=marked and part == count - 1,
                data=b"%d" % picture,
                first=part == 0,
                key=picture in key and part == 0,
            )
            packets.append((len(packets), packet))
    return packets


def feed(buffer: PictureBuffer, packets: list[Numbered], now: float = 0.0) -> list[int]:
    """The numbers of the pictures that are given."""
    given: list[Encoded] = []
    for sequence, packet in packets:
        given += buffer.add(sequence, packet, now)
    return [encoded.timestamp // 3600 for encoded in given]


def wait(buffer: PictureBuffer, begin: float, end: float) -> list[Encoded]:
    """What is given while nothing arrives."""
    given: list[Encoded] = []
    for step in range(round(1000 * begin), round(1000 * end), 5):
        given += buffer.wait(step / 1000)
    return given


def test_a_picture_is_given_with_its_last_packet_and_not_with_the_next_picture() -> None:
    buffer = PictureBuffer()
    packets = pictures(3, 2)
    assert feed(buffer, packets[:2]) == []
    assert buffer.add(*packets[2], 0.0) == [Encoded(0, b"000", key=True, damaged=False)]
    assert feed(buffer, packets[3:]) == [1]
    assert len(buffer) == 0


def test_a_sender_that_marks_nothing_is_one_picture_late() -> None:
    assert feed(PictureBuffer(), pictures(2, 2, 2, marked=False)) == [0, 1]


def test_packets_may_come_in_any_order_and_twice() -> None:
    packets = pictures(*[4] * 30)
    chance = random.Random(5)
    shuffled = sorted(packets * 2, key=lambda item: item[0] + chance.uniform(0, 9))
    buffer = PictureBuffer()
    assert feed(buffer, shuffled) == [*range(30)]
    assert buffer.late == len(packets)
    assert buffer.left_out == 0


def test_nothing_is_given_before_a_key_frame_and_one_is_asked_for() -> None:
    buffer = PictureBuffer()
    assert feed(buffer, pictures(2, 2, 2, key=())) == []
    assert not buffer.ask(0.0)
    assert wait(buffer, 0.0, 0.1) == []
    assert buffer.ask(0.1)
    assert not buffer.ask(0.2)
    assert len(buffer) == 0


def test_at_the_start_a_key_frame_may_come_after_what_follows_it() -> None:
    packets = pictures(2, 1, 1)
    buffer = PictureBuffer()
    order = [packets[2], packets[1], packets[0], packets[3]]
    assert feed(buffer, order) == [0, 1, 2]
    assert not buffer.ask(0.0)


def test_padding_after_a_picture_does_not_hold_up_the_next() -> None:
    packets = pictures(1, 1, 1)
    padding = Packet(0, last=False, data=b"", first=False, key=False)
    buffer = PictureBuffer()
    assert feed(buffer, [packets[0], (1, padding), (2, packets[1][1]), (3, packets[2][1])]) == [
        0,
        1,
        2,
    ]


def test_a_hole_holds_up_what_is_behind_it_until_it_is_filled() -> None:
    packets = pictures(1, 3, 1, 1)
    buffer = PictureBuffer()
    assert feed(buffer, packets[:2] + packets[3:]) == [0]
    assert not buffer.ask(0.0)
    assert [encoded.data for encoded in buffer.add(*packets[2], 0.05)] == [b"111", b"2", b"3"]


def test_a_lasting_hole_is_left_for_a_key_frame_and_for_nothing_else() -> None:
    packets = pictures(1, 2, 1, 2, 1, key=(0, 3))
    buffer = PictureBuffer()
    feed(buffer, [packets[0], packets[2], packets[3]])
    assert wait(buffer, 0.0, ASK_S) == []
    assert not buffer.ask(ASK_S - 0.01)
    assert wait(buffer, ASK_S, ASK_S + 0.01) == []
    assert buffer.ask(ASK_S + 0.01)
    assert feed(buffer, packets[4:], 0.3) == [3, 4]
    assert (buffer.left_out, buffer.damaged) == (1, 0)
    assert not buffer.ask(5.0)


def test_a_stream_joined_in_the_middle_of_a_picture_begins_without_a_hole() -> None:
    packets = pictures(1, 3, 1, 1, 1, key=(0, 3))
    buffer = PictureBuffer()
    assert feed(buffer, [packets[1], *packets[3:]]) == [3, 4]
    assert (buffer.left_out, buffer.damaged) == (0, 0)


def test_where_decoders_conceal_the_picture_goes_on_damaged_until_the_key_frame() -> None:
    packets = pictures(1, 2, 1, 1, 1, 1, key=(0, 4))
    buffer = PictureBuffer()
    buffer.give_up_s = GIVE_UP_S
    feed(buffer, [packets[0], packets[2], packets[3]])
    assert wait(buffer, 0.0, GIVE_UP_S) == []
    given = wait(buffer, GIVE_UP_S, GIVE_UP_S + 0.01)
    assert [(encoded.timestamp // 3600, encoded.damaged) for encoded in given] == [(2, True)]
    given = buffer.add(*packets[4], 0.4) + buffer.add(*packets[5], 0.44)
    assert [(e.timestamp // 3600, e.damaged) for e in given] == [(3, True), (4, False)]
    assert feed(buffer, packets[6:], 0.48) == [5]


def test_key_frames_are_asked_for_once_a_second_and_once_more_where_none_comes() -> None:
    buffer = PictureBuffer()
    feed(buffer, pictures(1, 1, key=()), -0.1)
    wait(buffer, -0.1, 0.0)
    asked = [step / 100 for step in range(300) if buffer.ask(step / 100)]
    expected = [second + more for second in (0.0, 1.0, 2.0) for more in (0.0, ASK_LOST_S)]
    assert asked == pytest.approx(expected, abs=0.011)


def test_a_key_frame_on_its_way_is_not_asked_for_again() -> None:
    buffer = PictureBuffer()
    feed(buffer, pictures(1, 1, key=()), -0.1)
    wait(buffer, -0.1, 0.0)
    assert buffer.ask(0.0)
    buffer.add(2, Packet(7200, last=False, data=b"k", first=True, key=True), 0.1)
    assert not any(buffer.ask(step / 100) for step in range(int(100 * ASK_AGAIN_S)))


def test_a_hole_does_not_age_while_the_loop_stands_still_and_reads_nothing() -> None:
    packets = pictures(1, 2, 1)
    buffer = PictureBuffer()
    feed(buffer, [packets[0], packets[2]])
    assert feed(buffer, packets[3:], 2.0) == []
    assert not buffer.ask(2.0)
    assert feed(buffer, packets[1:2], 2.001) == [1, 2]


def test_after_a_restart_only_a_key_frame_is_given() -> None:
    packets = pictures(1, 1, 1, 1, 1, key=(0, 3))
    buffer = PictureBuffer()
    assert feed(buffer, packets[:2]) == [0, 1]
    buffer.restart()
    assert feed(buffer, packets[2:]) == [3, 4]


def test_what_is_held_has_a_bound() -> None:
    buffer = PictureBuffer()
    feed(buffer, pictures(1))
    most = 0
    for number in range(2, 5 * MOST_PACKETS):  # the second packet never comes
        buffer.add(
            number, Packet(number, last=True, data=b".", first=True, key=False), number / 1000
        )
        most = max(most, len(buffer))
    assert most <= MOST_PACKETS


def test_garbage_never_raises_and_never_grows() -> None:
    chance = random.Random(3)
    buffer = PictureBuffer()
    buffer.give_up_s = GIVE_UP_S
    sequence = 0
    for step in range(20_000):
        sequence += chance.choice([1, 1, 1, 2, -3, 40, -200])
        packet = Packet(
            timestamp=chance.randrange(-5, 5) * 3600,
            last=chance.random() < 0.3,
            data=chance.choice([b"", b"x"]),
            first=chance.random() < 0.3,
            key=chance.random() < 0.02,
        )
        buffer.add(sequence, packet, step / 100)
        buffer.ask(step / 100)
        assert len(buffer) <= MOST_PACKETS


# Over a line, in virtual time


@pytest.mark.parametrize("conceals", [False, True], ids=["VP8", "H264"])
@pytest.mark.parametrize("loss", [0.01, 0.05, 0.1])
def test_no_picture_stands_for_half_a_second_at_a_round_trip_of_50_ms(
    loss: float, conceals: bool
) -> None:
    freezes, given, seconds = [], 0, 60
    for seed in range(4):
        line = LossyPictures(seconds, loss=loss, seed=seed, conceals=conceals)
        shown = line.run()
        freezes.append(shown.freeze_s())
        given += len(shown.pictures)
        assert line.buffer.damaged <= 0.01 * len(shown.pictures)
    assert max(freezes) <= 0.45
    assert given >= 0.995 * 4 * seconds * 25


def test_one_packet_and_its_retransmission_lost_cost_less_than_0_3_s() -> None:
    for number in range(100, 112):  # every place within pictures
        line = LossyPictures(4, lose=lambda n, before, lost=number: n == lost and before < 2)  # type: ignore[misc]
        shown = line.run()
        assert 0.04 < shown.freeze_s() <= 0.3
        assert len(shown.pictures) == 100
        assert line.key_frames <= 2


def test_jitter_that_reorders_everything_loses_nothing() -> None:
    line = LossyPictures(20, jitter_s=0.02, rtt_s=0.06)
    shown = line.run()
    assert len(shown.pictures) == 500
    assert shown.freeze_s() < 0.1
    assert line.key_frames == 1


def test_after_an_outage_of_2_s_one_key_frame_brings_the_picture_back() -> None:
    line = LossyPictures(10, cut=(4.0, 6.0))
    shown = line.run()
    back = min(at for at in shown.at if at > 5.0)
    assert back < 6.3
    assert line.key_frames == 2
    assert line.buffer.damaged == 0


@pytest.mark.parametrize("conceals", [False, True])
def test_a_sender_that_makes_no_key_frame_on_request_does_not_make_memory_grow(
    conceals: bool,
) -> None:
    line = LossyPictures(
        60, conceals=conceals, answers_pli=False, lose=lambda number, before: number == 500
    )
    shown = line.run()
    assert shown.most_held <= MOST_PACKETS
    assert (shown.at[-1] > 59) is conceals  # what nobody conceals can't be shown
