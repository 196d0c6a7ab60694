import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.phonemes import PhonemeSpan, opening_of, pauses_of
from training import synthesis
from training.sentences import foreign_sentences, sentences

pytestmark = pytest.mark.media

TEXT = "Bob packed a happy map. Papa opened a big apple, maybe."


@pytest.fixture(scope="module")
def spoken() -> tuple[NDArray[np.float32], int, list[PhonemeSpan]]:
    try:
        return synthesis.speak(TEXT, "en-us")
    except ConfigError as error:
        pytest.skip(str(error))


def level(samples: NDArray[np.float32], start_s: float, end_s: float, rate: int) -> float:
    part = samples[round(start_s * rate) : round(end_s * rate)].astype(np.float64)
    return float(np.sqrt(np.mean(np.square(part))))


def test_phonemes_cover_the_sound_without_gaps(
    spoken: tuple[NDArray[np.float32], int, list[PhonemeSpan]],
) -> None:
    samples, rate, spans = spoken
    assert samples.dtype == np.float32
    assert np.abs(samples).max() <= 1.0
    assert spans[0].start_s == 0.0
    assert spans[-1].end_s == pytest.approx(len(samples) / rate)
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(spans))


def test_pauses_are_quiet(spoken: tuple[NDArray[np.float32], int, list[PhonemeSpan]]) -> None:
    samples, rate, spans = spoken
    whole = level(samples, 0, len(samples) / rate, rate)
    pauses = pauses_of(spans, min_s=0.1)
    assert pauses
    for start, end in pauses:
        assert level(samples, start + 0.02, end - 0.01, rate) < 0.05 * whole


def test_stops_start_with_their_closure_and_vowels_are_loud(
    spoken: tuple[NDArray[np.float32], int, list[PhonemeSpan]],
) -> None:
    samples, rate, spans = spoken
    whole = level(samples, 0, len(samples) / rate, rate)
    stops = [s for before, s in itertools.pairwise(spans)
             if s.symbol == "p" and not before.silent]  # fmt: skip
    vowels = [s for s in spans if s.symbol[0] in "aæ" and s.end_s - s.start_s > 0.05]
    assert len(stops) >= 4
    assert len(vowels) >= 4
    for stop in stops:
        third = (stop.end_s - stop.start_s) / 3
        assert level(samples, stop.start_s, stop.start_s + third, rate) < 0.1 * whole
    for vowel in vowels:
        assert level(samples, vowel.start_s + 0.01, vowel.end_s - 0.01, rate) > 0.7 * whole


def test_speed_and_voice_change_the_sound(
    spoken: tuple[NDArray[np.float32], int, list[PhonemeSpan]],
) -> None:
    fast, rate, _ = synthesis.speak(TEXT, "en-us", rate_wpm=220)
    other, _, _ = synthesis.speak(TEXT, "en-gb+f3")
    assert len(fast) < 0.85 * len(spoken[0])
    count = min(len(other), len(spoken[0]))
    assert np.abs(other[:count] - spoken[0][:count]).max() > 0.1
    assert rate == spoken[1]


@pytest.mark.usefixtures("spoken")
def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(ConfigError, match="no voice 'xx-none'"):
        synthesis.speak("Hello.", "xx-none")


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPSTREAM_ESPEAK", "no-such-library.so")
    synthesis._espeak.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"apt install libespeak-ng1.*brew install"):
            synthesis.speak("Hello.")
    finally:
        synthesis._espeak.cache_clear()


@pytest.mark.usefixtures("spoken")
def test_the_corpus_is_varied_and_its_openings_follow_the_sound() -> None:
    utterances = list(synthesis.corpus(7, 12, foreign_share=0.3))
    assert len(utterances) == 12
    levels, matches = [], []
    for samples, spans in utterances:
        assert samples.dtype == np.float32
        assert spans[-1].end_s == pytest.approx(len(samples) / 16000, abs=2e-3)
        levels.append(20 * np.log10(np.sqrt(np.mean(np.square(samples)))))
        frames = len(samples) // 640
        loudness = np.sqrt(np.square(samples[: frames * 640]).reshape(frames, 640).mean(1))
        openings = opening_of(spans, (np.arange(frames) + 0.5) / 25)
        matches.append(np.corrcoef(loudness, openings)[0, 1])
    assert max(levels) - min(levels) > 4.0
    assert np.mean(matches) > 0.35


def test_sentences_are_repeatable_varied_and_of_natural_length() -> None:
    made = sentences(5, 200)
    assert made == sentences(5, 200)
    assert made != sentences(6, 200)
    assert len(set(made)) > 190
    lengths = [len(text.split()) for text in made]
    assert min(lengths) >= 6
    assert max(lengths) <= 18
    assert all(text[0].isupper() and text[-1] in ".?!" for text in made)
    assert not any("{" in text for text in made)


def test_foreign_sentences_exist_for_several_languages() -> None:
    languages = foreign_sentences()
    assert len({language for language, _ in languages}) >= 6
    assert all(len(texts) >= 2 for _, texts in languages)
