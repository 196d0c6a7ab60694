"""Live and pushed sound on its way into a session, in virtual time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.core.drift import MOST_PPM, SLEW_PPM_PER_S, DriftServo, VariableRate
from stream.core.intake import LiveIntake, PushedIntake
from stream.core.sound import SOUND_RATE, TICK_S, TICK_SAMPLES, Sound
from stream.core.track import FADE_SAMPLES

pytestmark = pytest.mark.unit

HZ = 5.0  # of the tone that tells delays up to its period apart
Packet = tuple[float, NDArray[np.float32]]


def tone(rate: float, seconds: float, hz: float = 440.0) -> NDArray[np.float32]:
    time_s = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A device or a network with a clock of its own, that gives a tone of its own time."""

    rate: int = 16_000
    hz: float = HZ
    ppm: float = 0.0
    packet_s: float = 0.02
    jitter_s: float = 0.0
    phase_s: float = 0.0037

    def packets(self, seconds: float) -> Iterator[Packet]:
        """When each arrives, and its samples."""
        random, size, arrival = np.random.default_rng(1), round(self.packet_s * self.rate), 0.0
        second = tone(self.rate, 1.0, self.hz)
        twice = np.concatenate([second, second])
        for number in range(int(seconds * self.rate / size)):
            ends = (number + 1) * size / self.rate / (1 + self.ppm * 1e-6) + self.phase_s
            arrival = max(arrival, ends + random.uniform(0, self.jitter_s))
            start = number * size % self.rate
            yield arrival, twice[start : start + size]


@dataclass
class Heard:
    """What a session pulled, and the intake's state after each pull."""

    sound: Sound
    levels_s: NDArray[np.float64]
    ppms: NDArray[np.float64]
    starved_s: NDArray[np.float64]
    dropped_s: NDArray[np.float64]

    def delays_s(self, ppm: float = 0.0, hz: float = HZ) -> NDArray[np.float64]:
        """How long before each second of the session its tone was made."""
        rate = SOUND_RATE // 32
        time_s = np.arange(len(self.sound) // 32) / rate
        turned = self.sound[::32, 0] * np.exp(-2j * np.pi * hz * (1 + ppm * 1e-6) * time_s)
        seconds = len(turned) // rate
        means = turned[: seconds * rate].reshape(seconds, rate).mean(axis=1)
        return np.asarray(-(np.angle(means * 1j) / (2 * np.pi * hz)) % (1 / hz), np.float64)


def hear(intake: LiveIntake, packets: Iterable[Packet], seconds: float) -> Heard:
    coming, sound, states = iter(packets), [], []
    packet = next(coming, None)
    for tick in range(1, round(seconds / TICK_S) + 1):
        now = tick * TICK_S
        while packet is not None and packet[0] <= now:
            intake.push(packet[1], packet[0])
            packet = next(coming, None)
        sound.append(intake.pull(TICK_SAMPLES, now))
        states.append((intake.level_s, intake.ppm, intake.starved_s, intake.dropped_s))
    return Heard(np.concatenate(sound), *np.array(states).T)


def roughness(sound: Sound, hz: float) -> float:
    """How far a sound is from any tone of this pitch, at its worst sample."""
    left = sound[:, 0].astype(np.float64)
    turn = 2 * np.cos(2 * np.pi * hz / SOUND_RATE)
    return float(np.abs(left[2:] - turn * left[1:-1] + left[:-2]).max())


# DriftServo


def steps(servo: DriftServo, level_s: float, seconds: float, start: float = 0.0) -> list[float]:
    count = round(seconds / 0.01)
    return [1e6 * (servo.update(level_s, start + n * 0.01) - 1) for n in range(1, count + 1)]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_correction_is_bounded_and_changes_slowly(sign: int) -> None:
    ppms = np.array(steps(DriftServo(0.04), 0.04 + sign * 0.03, 20))
    assert np.abs(np.diff(ppms)).max() <= SLEW_PPM_PER_S * 0.01 + 1e-6
    assert ppms[-1] == pytest.approx(sign * MOST_PPM)
    assert np.abs(ppms).max() <= MOST_PPM + 1e-6


def test_a_large_error_teaches_nothing_about_the_clock() -> None:
    servo = DriftServo(0.04)
    steps(servo, 0.5, 20)
    servo.start(0.04, 20.0)
    assert abs(steps(servo, 0.04, 10, 20.0)[-1]) < 50


def test_a_restart_of_the_level_keeps_what_was_learned_and_a_reset_forgets_it() -> None:
    servo = DriftServo(0.04)
    steps(servo, 0.046, 20)
    learned = servo.ppm
    servo.start(0.04, 20.0)
    after = steps(servo, 0.04, 10, 20.0)[-1]
    assert 200 < after < learned
    servo.reset()
    assert servo.ppm == 0
    assert servo.update(0.04, 30.0) == 1


def test_a_step_back_of_the_clock_counts_as_no_time() -> None:
    servo = DriftServo(0.04)
    servo.update(0.05, 1.0)
    before = servo.update(0.05, 2.0)
    assert servo.update(0.5, 1.5) == before
    assert servo.update(0.5, 2.0) == before


# VariableRate


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_any_packets_give_the_same_sound(rate: int) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, rate // 4).astype(np.float32)
    sounds = []
    for size in (1, 160, 441, len(noise)):
        convert = VariableRate(rate, 1)
        parts = [convert.push(noise[i : i + size]) for i in range(0, len(noise), size)]
        given = sum(map(len, parts))
        assert convert.delay_s == pytest.approx(len(noise) / rate - given / SOUND_RATE, abs=1e-4)
        sounds.append(np.concatenate([*parts, convert.finish()]))
        assert len(sounds[-1]) == SOUND_RATE // 4
        np.testing.assert_allclose(sounds[-1], sounds[0], atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_a_tone_keeps_pitch_level_and_place(rate: int) -> None:
    convert = VariableRate(rate, 1)
    sound = np.concatenate([convert.push(tone(rate, 1.0)), convert.finish()])
    inner = slice(4_800, -4_800)
    # The filter turns a tone by up to 0.04 ms.
    assert np.abs(sound[inner, 0] - tone(SOUND_RATE, 1.0)[inner]).max() < 0.06
    assert roughness(sound[inner], 440) < 1e-5


@pytest.mark.parametrize("rate", [16_000, 48_000, 96_000])
def test_a_rate_that_wanders_makes_no_noise(rate: int) -> None:
    """Also through 1:1 and 2:1, where the resampler changes its stages."""
    convert, sound, samples = VariableRate(rate, 1), [], tone(rate, 4.0, hz=1_000)
    size = rate // 50
    for number, ppm in enumerate(np.linspace(-300, 300, 200)):
        convert.set_ratio(1 + ppm * 1e-6)
        sound.append(convert.push(samples[number * size : (number + 1) * size]))
    whole = np.concatenate(sound)
    assert len(whole) == pytest.approx(4 * SOUND_RATE - convert.delay_s * SOUND_RATE, abs=200)
    # A tone that is 300 ppm off is rough by 5e-6 already.
    assert roughness(whole[4_800:], 1_000) < 2e-5


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 0), (0, 1), (10_000_000, 2)])
def test_an_impossible_form_is_refused(rate: int, channels: int) -> None:
    with pytest.raises(ValueError, match="Hz"):
        LiveIntake(rate, channels)


# LiveIntake


@pytest.mark.parametrize(
    ("ppm", "packet_s", "jitter_s"), [(200.0, 0.02, 0.02), (-200.0, 0.04, 0.01)], ids=str
)
def test_a_wrong_clock_is_held_for_ten_minutes(
    ppm: float, packet_s: float, jitter_s: float
) -> None:
    source = Source(ppm=ppm, packet_s=packet_s, jitter_s=jitter_s)
    intake = LiveIntake(source.rate, 1)
    heard = hear(intake, source.packets(601), 600)
    settled = slice(round(30 / TICK_S), None)
    assert heard.starved_s[-1] == intake.dropped_s == 0
    assert np.abs(heard.levels_s[settled] - 0.04).max() < 0.01
    # What the sound itself says. Before the intake, jitter and whole packets delay it; the session
    # counts a pull as the tick before.
    delays_s = heard.delays_s(ppm)[30:]
    expected_s = 0.04 + source.phase_s + intake._converter.delay_s + jitter_s / 2
    expected_s += (packet_s - TICK_S) / 2
    assert np.abs(delays_s - expected_s).max() < 0.01
    assert np.abs(heard.ppms[settled] - ppm).max() < 250
    assert heard.ppms[settled].mean() == pytest.approx(ppm, abs=10)
    # The pitch from second to second, against the source's.
    assert np.abs(np.diff(delays_s)).max() < 250e-6


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
@pytest.mark.parametrize("packet_s", [0.0025, 0.01, 0.03])
def test_a_live_tone_comes_out_whole(rate: int, packet_s: float) -> None:
    source = Source(rate=rate, packet_s=packet_s, hz=400)
    intake = LiveIntake(rate, 1)
    heard = hear(intake, source.packets(4), 3)
    assert len(heard.sound) == 3 * SOUND_RATE
    assert roughness(heard.sound[SOUND_RATE // 5 :], 400) < 1e-5
    assert heard.starved_s[-1] == intake.dropped_s == 0
    assert intake.latency_s == pytest.approx(0.04 + intake._converter.delay_s, abs=0.004)


def test_it_fills_before_it_plays_and_that_is_not_starving() -> None:
    intake = LiveIntake(48_000, 1, target_s=0.1)
    heard = hear(intake, Source(rate=48_000, hz=400).packets(2), 1)
    first = int(np.flatnonzero(heard.sound.any(axis=1))[0])
    assert first / SOUND_RATE == pytest.approx(0.1, abs=0.021)
    assert heard.starved_s[-1] == 0
    assert heard.levels_s[-1] == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("gap_s", [0.1, 0.7, 3.0])
def test_a_gap_is_silent_counted_and_shifts_nothing(gap_s: float) -> None:
    intake = LiveIntake(16_000, 1)
    packets = [packet for packet in Source().packets(13) if not 4 < packet[0] <= 4 + gap_s]
    heard = hear(intake, packets, 12)
    before, after = heard.delays_s()[2], heard.delays_s()[8:]
    assert heard.starved_s[-1] == pytest.approx(gap_s, abs=0.021)
    assert np.abs(after - before).max() < 0.01
    silent = np.abs(heard.sound).max(axis=1) == 0
    assert silent[SOUND_RATE:].sum() / SOUND_RATE == pytest.approx(gap_s, abs=0.03)
    assert intake.dropped_s == 0


def test_where_it_starves_and_returns_nothing_clicks() -> None:
    packets = [
        (time, np.full(320, 0.5, np.float32))
        for time, _ in Source().packets(4)
        if not 2 < time <= 2.3
    ]
    sound = hear(LiveIntake(16_000, 1), packets, 4).sound
    assert (sound == 0).all(axis=1)[SOUND_RATE:].any()
    assert np.abs(np.diff(sound, axis=0)).max() < 0.8 / FADE_SAMPLES


def test_a_large_buffer_that_lost_much_fills_again() -> None:
    packets = [packet for packet in Source().packets(13) if not 4 < packet[0] <= 4.1]
    intake = LiveIntake(16_000, 1, target_s=0.15)
    heard = hear(intake, packets, 12)
    delays_s = heard.delays_s()
    assert np.abs(delays_s[6:] - delays_s[2]).max() < 0.02
    assert heard.starved_s[-1] == pytest.approx(0.1, abs=0.03)
    assert np.flatnonzero(heard.starved_s)[0] * TICK_S < 4.8
    assert intake.dropped_s == 0


def stalled(source: Source, seconds: float, at: float, stall_s: float) -> list[Packet]:
    """The network holds everything back for a while, then delivers it at once."""
    return [
        (at + stall_s if at < time <= at + stall_s else time, samples)
        for time, samples in source.packets(seconds)
    ]


@pytest.mark.parametrize("stall_s", [0.15, 0.4, 2.0])
def test_after_a_stall_the_sound_is_as_late_as_before(stall_s: float) -> None:
    intake = LiveIntake(16_000, 1)
    heard = hear(intake, stalled(Source(), 12, 4, stall_s), 11)
    delays_s = heard.delays_s()
    assert np.abs(delays_s[8:] - delays_s[2]).max() < 0.03
    # What comes too late is not heard: as long as it was silent, it is dropped.
    assert intake.dropped_s == pytest.approx(heard.starved_s[-1], abs=0.03)
    assert intake.dropped_s == pytest.approx(stall_s - 0.04, abs=0.04)


def test_a_short_stall_is_made_up_for_by_the_rate() -> None:
    intake = LiveIntake(16_000, 1)
    heard = hear(intake, stalled(Source(), 82, 4, 0.08), 80)
    assert 0.02 < heard.starved_s[-1] < 0.08
    assert intake.dropped_s == 0
    delays_s = heard.delays_s()
    assert delays_s[8] - delays_s[2] > 0.02
    assert abs(delays_s[-1] - delays_s[2]) < 0.005


def with_surplus(quiet: bool) -> tuple[LiveIntake, Heard, float]:
    """At second 2, 200 ms too much come in; at 2.38 the source is silent for 0.3 s, if wanted."""
    intake, packets = LiveIntake(48_000, 1), []
    surplus = 0.5 * np.ones(round(0.2 * 48_000), np.float32)
    loud_s = 0.0
    for time, _ in Source(rate=48_000).packets(5):
        level = 0.0 if quiet and 2.38 < time < 2.68 else 0.5
        packets.append((time, np.full(960, level, np.float32)))
        loud_s += 0.02 * (level > 0)
        if 2 < time <= 2.02:
            packets.append((time, surplus))
            loud_s += 0.2
    return intake, hear(intake, packets, 5), loud_s


def test_what_is_too_much_is_cut_out_of_silence() -> None:
    intake, heard, loud_s = with_surplus(quiet=True)
    assert 0.13 < intake.dropped_s < 0.21
    assert intake.level_s < 0.1
    heard_s = (np.abs(heard.sound[:, 0]) > 0.25).sum() / SOUND_RATE
    waiting_s = intake.latency_s
    assert heard_s == pytest.approx(loud_s - waiting_s, abs=0.03), "only silence went"


def test_without_silence_it_is_cut_anyway_and_does_not_click() -> None:
    intake = LiveIntake(16_000, 1)
    packets: list[Packet] = []
    for time, samples in Source(hz=400).packets(5):
        packets.append((time, samples))
        if 2 < time <= 2.02:
            packets.append((time, tone(16_000, 0.2, hz=400)))
    heard = hear(intake, packets, 4.5)
    assert intake.dropped_s == pytest.approx(0.2, abs=0.02)
    cut_s = np.flatnonzero(heard.dropped_s)[0] * TICK_S
    assert 2.5 < cut_s < 2.8
    steepest = 0.5 * 2 * np.pi * 400 / SOUND_RATE + 1.1 / FADE_SAMPLES
    assert np.abs(np.diff(heard.sound[SOUND_RATE:], axis=0)).max() < steepest


def test_a_session_that_does_not_pull_costs_only_the_oldest() -> None:
    intake = LiveIntake(16_000, 1, limit_s=0.3)
    for number in range(100):
        intake.push(np.full(320, number / 200, np.float32), 0.02 * number)
        assert intake.level_s <= 0.3
    assert intake.dropped_s == pytest.approx(2 - 0.3, abs=0.03)
    # Late by far more than the target: it starts near the newest packet.
    block = intake.pull(TICK_SAMPLES, 2.0)
    assert 96 <= block[-1, 0] * 200 <= 98.5


def test_packets_that_keep_coming_late_raise_the_target() -> None:
    """Five at once every 100 ms, as sound servers do it."""
    packets = [(np.ceil(time / 0.1) * 0.1, samples) for time, samples in Source().packets(121)]
    intake = LiveIntake(16_000, 1)
    heard = hear(intake, packets, 120)
    assert 0.05 < intake.target_s <= 0.16
    assert heard.starved_s[500] > 0
    assert heard.starved_s[-1] == heard.starved_s[1_000], "from second 20 on it is enough"
    intake.restart()
    assert intake.target_s == 0.04


def test_gaps_alone_do_not_raise_the_target() -> None:
    packets = [packet for packet in Source(packet_s=0.04).packets(60) if packet[0] % 5 > 0.5]
    intake = LiveIntake(16_000, 1)
    heard = hear(intake, packets, 59)
    assert heard.starved_s[-1] > 3
    assert intake.target_s == 0.04


def test_a_device_that_comes_back_starts_afresh() -> None:
    intake = LiveIntake(16_000, 1)
    hear(
        intake, ((at, np.full(320, -0.5, np.float32)) for at, _ in Source(ppm=200).packets(60)), 50
    )
    assert intake.ppm > 100
    intake.restart()
    assert (intake.ppm, intake.level_s) == (0, 0)
    starved_s = intake.starved_s
    assert not intake.pull(TICK_SAMPLES, 50.02)[FADE_SAMPLES:].any()
    assert intake.starved_s == starved_s
    packets = [(time + 55, np.full(320, 0.5, np.float32)) for time, _ in Source().packets(5)]
    sound = []
    for tick in range(1, 200):
        while packets and packets[0][0] <= 55 + tick * TICK_S:
            time, samples = packets.pop(0)
            intake.push(samples, time)
        sound.append(intake.pull(TICK_SAMPLES, 55 + tick * TICK_S))
    assert np.concatenate(sound).max() > 0.4
    assert np.concatenate(sound).min() > -0.05, "nothing old is heard"
    assert intake.starved_s == starved_s
    assert intake.level_s == pytest.approx(0.04, abs=0.005)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("whole_numbers", [False, True], ids=["float32", "int16"])
def test_channels_and_kinds_of_number(channels: int, whole_numbers: bool) -> None:
    intake = LiveIntake(48_000, channels)
    levels = np.arange(1, channels + 1) / 8
    samples = np.tile(levels, (960, 1)).astype(np.float32)
    if channels == 1:
        samples = samples[:, 0]
    sent = (samples * 32_768).astype(np.int16) if whole_numbers else samples
    for number in range(50):
        intake.push(sent, number * 0.02)
        block = intake.pull(TICK_SAMPLES, number * 0.02)
        assert block.shape == (TICK_SAMPLES, 2)
        assert block.dtype == np.float32
    wanted = levels if channels == 2 else levels.mean()
    np.testing.assert_allclose(block, np.broadcast_to(wanted, block.shape), atol=2e-3)
    with pytest.raises(ValueError, match="channels"):
        intake.push(np.zeros((960, 3), np.float32), 1.0)


def test_damaged_samples_are_silence_and_leave_no_trace() -> None:
    intake = LiveIntake(16_000, 1)
    packets = list(Source(hz=400).packets(4))
    packets[50] = packets[50][0], np.full(320, np.nan, np.float32)
    packets[51] = packets[51][0], np.full(320, 50.0, np.float32)
    sound = hear(intake, packets, 3).sound
    assert np.abs(sound).max() <= 1
    assert roughness(sound[2 * SOUND_RATE :], 400) < 1e-5


@pytest.mark.parametrize("count", [1, 100, 960, 3_000])
def test_a_pull_gives_exactly_what_was_asked_for(count: int) -> None:
    intake = LiveIntake(16_000, 2)
    pushed = PushedIntake()
    for number in range(20):
        intake.push(np.ones((320, 2), np.int16), number * 0.02)
        pushed.push(np.ones((320, 2), np.int16), 16_000)
        assert intake.pull(count, number * 0.02).shape == (count, 2)
        assert pushed.pull(count, number * 0.02).shape == (count, 2)


# PushedIntake


def drained(intake: PushedIntake, seconds: float) -> Sound:
    ticks = range(round(seconds / TICK_S))
    return np.concatenate([intake.pull(TICK_SAMPLES, tick * TICK_S) for tick in ticks])


def test_a_burst_is_heard_whole_at_once_and_as_it_is() -> None:
    noise = np.random.default_rng(2).uniform(-1, 1, (30 * SOUND_RATE, 2)).astype(np.float32)
    intake = PushedIntake()
    intake.push(noise, SOUND_RATE)
    assert intake.level_s == 30
    np.testing.assert_array_equal(drained(intake, 30), noise)
    intake.end_utterance()
    assert not drained(intake, 1).any()
    assert intake.starved_s == 0


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100])
@pytest.mark.parametrize("size", [333, 100_000])
def test_an_utterance_at_any_rate_keeps_its_length_and_pitch(rate: int, size: int) -> None:
    samples, intake = tone(rate, 2.0), PushedIntake()
    for start in range(0, len(samples), size):
        intake.push(samples[start : start + size], rate)
    intake.end_utterance()
    assert intake.level_s == pytest.approx(2.0, abs=1e-4)
    sound = drained(intake, 3)
    inner = slice(4_800, 2 * SOUND_RATE - 4_800)
    assert np.abs(sound[inner, 0] - tone(SOUND_RATE, 2.0)[inner]).max() < 0.06
    assert roughness(sound[inner], 440) < 1e-5
    assert not sound[2 * SOUND_RATE + 10 :].any()


@pytest.mark.parametrize("rates", [(48_000, 48_000), (16_000, 24_000)])
@pytest.mark.parametrize("told", [True, False], ids=["told", "by its rate"])
def test_utterances_follow_each_other_directly(rates: tuple[int, int], told: bool) -> None:
    intake = PushedIntake()
    for rate, level in zip(rates, (0.25, 0.5), strict=True):
        intake.push(np.full(rate, level, np.float32), rate)
        if told:
            intake.end_utterance()
    intake.end_utterance()
    sound = drained(intake, 2.5)[:, 0]
    assert (sound[2_000:46_000].round(2) == 0.25).all()
    assert (sound[50_000:94_000].round(2) == 0.5).all()
    assert (sound[47_000:49_000] < 0.2).sum() < 48, "no hole between them"
    assert not sound[96_001:].any()
    assert intake.starved_s == 0


def test_an_utterance_starts_once_enough_of_it_is_there_or_all() -> None:
    intake = PushedIntake(start_s=0.06)
    intake.push(np.ones(2_000, np.float32), SOUND_RATE)
    assert not intake.pull(TICK_SAMPLES, 0.0).any()
    intake.push(np.ones(880, np.float32), SOUND_RATE)
    assert intake.pull(TICK_SAMPLES, 0.0).all()
    intake = PushedIntake(start_s=0.06)
    intake.push(np.ones(2_000, np.float32), SOUND_RATE)
    intake.end_utterance()
    assert intake.pull(TICK_SAMPLES, 0.0).all()
    assert intake.starved_s == 0


def test_each_utterance_waits_for_its_own_start() -> None:
    intake = PushedIntake(start_s=0.06)
    intake.push(np.ones(960, np.float32), SOUND_RATE)
    intake.end_utterance()
    intake.push(np.ones(2_000, np.float32), SOUND_RATE)
    assert intake.pull(1_920, 0.0).any(axis=1).sum() == 960
    assert not intake.pull(TICK_SAMPLES, 0.0).any()
    assert intake.starved_s == 0


def test_where_an_utterance_starves_it_is_counted_and_waits_for_enough_again() -> None:
    intake = PushedIntake(start_s=0.06)
    parts = []
    intake.push(np.full(3_000, 0.8, np.float32), SOUND_RATE)
    parts.append(drained(intake, 0.1))  # 4 800 samples
    assert intake.starved_s == pytest.approx(1_800 / SOUND_RATE)
    intake.push(np.full(2_000, 0.8, np.float32), SOUND_RATE)
    parts.append(drained(intake, 0.02))
    assert intake.starved_s == pytest.approx(2_760 / SOUND_RATE)
    intake.push(np.full(2_000, 0.8, np.float32), SOUND_RATE)
    intake.end_utterance()
    parts.append(drained(intake, 0.2))
    sound = np.concatenate(parts)[:, 0]
    assert intake.starved_s == pytest.approx(2_760 / SOUND_RATE), "after its end it is just quiet"
    assert (sound[:3_000] == np.float32(0.8)).all()
    assert not sound[3_000 + FADE_SAMPLES : 5_760].any()
    assert (sound[5_760 + FADE_SAMPLES : 9_760] == np.float32(0.8)).all()
    assert not sound[9_760:].any()
    assert np.abs(np.diff(sound[:9_000])).max() < 1 / FADE_SAMPLES


def test_room_tells_when_to_stop_and_nothing_is_dropped() -> None:
    intake = PushedIntake(hold_s=2.0)
    assert intake.room_s == 2
    second = np.full(16_000, 0.5, np.float32)
    intake.push(second, 16_000)
    assert intake.room_s == pytest.approx(1, abs=0.02)
    for _ in range(2):
        intake.push(second, 16_000)
    intake.end_utterance()
    assert intake.room_s == 0
    heard = drained(intake, 1.5)
    assert intake.room_s == pytest.approx(0.5, abs=0.02)
    heard = np.concatenate([heard, drained(intake, 2)])
    assert (np.abs(heard[:, 0]) > 0.25).sum() == pytest.approx(3 * SOUND_RATE, abs=20)
    assert intake.room_s == 2


def test_a_flush_is_silent_within_five_milliseconds_and_does_not_click() -> None:
    intake = PushedIntake()
    samples = tone(SOUND_RATE, 10, hz=400)
    intake.push(samples, SOUND_RATE)
    before = drained(intake, 0.1)
    intake.flush()
    assert intake.level_s == 0
    assert intake.room_s == 60
    assert intake.flushed_s == pytest.approx(9.9)
    sound = np.concatenate([before, drained(intake, 0.1)])
    assert np.abs(sound[4_800 : 4_800 + FADE_SAMPLES]).max() > 0.1
    assert not sound[4_800 + FADE_SAMPLES :].any()
    steepest = 0.5 * 2 * np.pi * 400 / SOUND_RATE + 0.5 / FADE_SAMPLES
    assert np.abs(np.diff(sound, axis=0)).max() < steepest
    assert intake.starved_s == 0


def test_after_a_flush_a_new_utterance_is_heard_without_the_old_one() -> None:
    intake = PushedIntake()
    intake.push(np.full(16_000, -0.8, np.float32), 16_000)
    intake.flush()
    intake.push(np.full(16_000, 0.5, np.float32), 16_000)
    intake.end_utterance()
    sound = drained(intake, 1.2)[:, 0]
    assert sound.min() > -0.1, "neither what waited nor what the filter held is heard"
    assert (sound[2_000:46_000].round(2) == 0.5).all()
    assert not sound[SOUND_RATE:].any()


def test_a_flush_during_a_push_discards_all_of_that_push(monkeypatch: pytest.MonkeyPatch) -> None:
    intake = PushedIntake()
    convert = VariableRate.push

    def flushed_in_between(self: VariableRate, samples: NDArray[np.float32]) -> Sound:
        sound = convert(self, samples)
        intake.flush()
        return sound

    monkeypatch.setattr(VariableRate, "push", flushed_in_between)
    intake.push(np.ones(40_000, np.float32), 16_000)
    assert intake.level_s == 0
    assert not drained(intake, 0.1).any()
    assert intake.flushed_s == pytest.approx(2.5, abs=0.02)


def test_a_pull_does_not_wait_for_a_burst_that_is_being_converted() -> None:
    intake = PushedIntake()
    intake.push(np.ones(16_000, np.float32), 16_000)
    with intake._pushing:
        assert intake.pull(TICK_SAMPLES, 0.0).any()
        intake.flush()
        assert intake.room_s == 60


def test_empty_pushes_and_ends_change_nothing() -> None:
    intake = PushedIntake()
    intake.end_utterance()
    for rate in (16_000, 48_000):
        intake.push(np.zeros(0, np.float32), rate)
        intake.end_utterance()
    intake.push(np.ones(SOUND_RATE, np.float32), SOUND_RATE)
    assert intake.pull(TICK_SAMPLES, 0.0).all()
    with pytest.raises(ValueError, match="int16"):
        intake.push(np.zeros(10, np.int32), 16_000)  # type: ignore[arg-type]
