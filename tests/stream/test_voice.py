import importlib.util
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import voice_network
from engine.errors import ConfigError
from engine.media import read_audio
from engine.mel import SAMPLE_RATE
from engine.phonemes import PhonemeSpan, load_spans, pauses_of
from engine.voice_network import HOP_S, HOP_SAMPLES, VoiceNetwork
from stream.core.gate import OFF_AT, ON_AT, Gate, GateCase
from stream.core.voice import SILENT_PEAK, Hop, VoiceActivity

pytestmark = pytest.mark.models

ASSETS = Path(str(files("stream"))) / "assets"
Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def speech() -> Samples:
    return read_audio(ASSETS / "demo_speech.flac")


@pytest.fixture(scope="module")
def spans() -> list[PhonemeSpan]:
    return load_spans(ASSETS / "demo_speech.json")


def noise(seconds: float, size: float) -> Samples:
    samples = np.random.default_rng(0).normal(0, size, round(seconds * SAMPLE_RATE))
    return np.asarray(samples, np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def tones(seconds: float, **sizes: float) -> Samples:
    """A mix of tones, named by their frequencies: hz50=0.2."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    waves = [size * np.sin(2 * np.pi * float(name[2:]) * times) for name, size in sizes.items()]
    return np.asarray(np.sum(waves, axis=0), np.float32)


def speaks(hops: list[Hop]) -> list[bool]:
    """Whether each hop is speech, surer at its start than in its course."""
    found, on = [], False
    for hop in hops:
        on = hop.probability >= (OFF_AT if on else ON_AT)
        found.append(on)
    return found


def test_speech_is_found_and_pauses_are_silent(speech: Samples, spans: list[PhonemeSpan]) -> None:
    hops = VoiceActivity().push(speech)
    found = speaks(hops)
    pauses = pauses_of(spans, min_s=0.1)
    middles = [hop.end_s - hop.length_s / 2 for hop in hops]
    spoken = [
        is_found
        for is_found, middle in zip(found, middles, strict=True)
        if not any(start <= middle < end for start, end in pauses)
    ]
    assert np.mean(spoken) > 0.95
    long = [pause for pause in pauses if pause[1] - pause[0] >= 0.5]
    assert len(long) == 5
    for start, end in long:
        settled = start if start == 0 else start + 0.15
        inside = [f for f, middle in zip(found, middles, strict=True) if settled < middle < end]
        assert len(inside) > 10
        assert not any(inside)


def test_the_gate_speaks_in_all_speech_and_not_in_long_pauses(
    speech: Samples, spans: list[PhonemeSpan]
) -> None:
    gate, voice = Gate(has_source=False), VoiceActivity()
    pauses = pauses_of(spans, min_s=0.5)
    spoken, resting = [], []
    for number in range(round(len(speech) / SAMPLE_RATE * 25) - 5):
        pts = number / 25 - 0.2
        for hop in voice.push(speech[number * 640 : (number + 1) * 640]):
            gate.heard_target(*hop)
        if pts < 0:
            continue
        decision = gate.decide(pts)  # the sound is known 0.24 s ahead
        where = [end for start, end in pauses if start <= pts < end]
        if not where:
            spoken.append(decision.amount > 0)
        elif where[0] - 0.2 < pts < where[0] - 0.16:
            resting.append(decision.case)
    assert np.mean(spoken) >= 0.99
    assert len(resting) >= 3
    assert set(resting) == {GateCase.REAL}


def test_quiet_speech_is_found_as_well_from_its_first_word(speech: Samples) -> None:
    """40 dB below full scale, after a silence."""
    sentence = speech[8000:48_000]
    loud = np.sum(speaks(VoiceActivity().push(sentence)))
    quiet = np.concatenate([silence(5), sentence * np.float32(0.012)])
    assert np.sum(speaks(VoiceActivity().push(quiet))) == pytest.approx(loud, rel=0.05)


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(noise(4, 0.1), id="white-noise"),
        pytest.param(noise(4, 0.003), id="quiet-noise"),
        pytest.param(tones(4, hz440=0.3), id="tone"),
        pytest.param(tones(4, hz50=0.2, hz100=0.05, hz150=0.1), id="hum"),
    ],
)
def test_noise_tones_and_hum_are_no_speech(sound: Samples) -> None:
    hops = VoiceActivity().push(sound)
    assert len(hops) == 125
    assert max(hop.probability for hop in hops) < OFF_AT


@pytest.mark.parametrize("size", [1, 320, 777, 5000])
def test_blocks_of_any_size_give_the_same_hops(speech: Samples, size: int) -> None:
    part = speech[8000:20_000]
    voice = VoiceActivity()
    hops = [
        hop for start in range(0, len(part), size) for hop in voice.push(part[start : start + size])
    ]
    assert hops == VoiceActivity().push(part)
    assert len(hops) == len(part) // HOP_SAMPLES
    assert [hop.end_s for hop in hops] == pytest.approx(HOP_S * np.arange(1, len(hops) + 1))
    assert {hop.length_s for hop in hops} == {0.032}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever the network is asked."""
    asked: list[int] = []
    original = VoiceNetwork.probability

    def counted(self: VoiceNetwork, hop: Samples) -> float:
        asked.append(len(hop))
        return original(self, hop)

    monkeypatch.setattr(VoiceNetwork, "probability", counted)
    return asked


def test_silence_does_not_trouble_the_network(looks: list[int], speech: Samples) -> None:
    voice = VoiceActivity()
    faint = np.clip(noise(5, SILENT_PEAK), -SILENT_PEAK, SILENT_PEAK) * np.float32(0.99)
    hops = voice.push(np.concatenate([silence(5), faint]))
    assert {hop.probability for hop in hops[40:]} == {0.0}
    assert len(looks) <= 40, "only in the first second, so that it knows silence"
    looks.clear()
    voice.push(speech[16_000:24_192])
    assert len(looks) == 16, "all that sounds"
    assert {hop.probability for hop in voice.push(silence(10))[40:]} == {0.0}
    assert len(looks) <= 16 + 40
    assert VoiceActivity().push(noise(0.032, 10 * SILENT_PEAK))[0].probability > 0.0


@pytest.mark.parametrize("pause_s", [0.4, 1.0, 8.0])
def test_after_silence_noise_is_no_speech_and_speech_is_found(
    speech: Samples, pause_s: float
) -> None:
    cut_off = speech[8000:48_000]
    voice = VoiceActivity()
    voice.push(np.concatenate([cut_off, silence(pause_s)]))
    assert max(hop.probability for hop in voice.push(noise(1, 0.01))) < OFF_AT
    voice.push(np.concatenate([cut_off, silence(pause_s)]))
    assert voice.push(speech[8000:9600])[-1].probability >= ON_AT, "within a tenth of a second"


def test_reset_forgets_what_was_heard(speech: Samples) -> None:
    voice = VoiceActivity()
    voice.push(speech[8000:30_123])
    voice.reset(at_s=7.0)
    again = voice.push(speech[4000:12_000])
    fresh = VoiceActivity().push(speech[4000:12_000])
    assert [hop.probability for hop in again] == [hop.probability for hop in fresh]
    assert again[0].end_s == pytest.approx(7.032)


def test_broken_samples_are_no_speech_and_do_no_harm(speech: Samples) -> None:
    voice = VoiceActivity()
    broken = np.full(HOP_SAMPLES * 4, np.nan, np.float32)
    assert max(hop.probability for hop in voice.push(broken)) < 0.1
    beyond = voice.push(np.full(HOP_SAMPLES, np.inf, np.float32))
    assert 0.0 <= beyond[0].probability <= 1.0
    holed = speech[8000:40_000].copy()
    holed[::100] = np.nan
    assert np.mean(speaks(voice.push(holed))) > 0.8
    with pytest.raises(ValueError, match="one row"):
        voice.push(np.zeros((2, 512), np.float32))


def test_a_missing_package_is_named_with_the_step_that_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    voice_network._compiled.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install --no-deps .* silero-vad"):
        VoiceActivity()


def test_a_hop_of_sound_takes_a_fraction_of_its_length(speech: Samples) -> None:
    voice = VoiceActivity()
    started = time.process_time()
    hops = voice.push(speech[8000 : 8000 + 100 * HOP_SAMPLES])
    assert (time.process_time() - started) / len(hops) < 0.05 * HOP_S
