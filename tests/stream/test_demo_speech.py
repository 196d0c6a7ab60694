import itertools
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.media import read_audio
from engine.mel import SAMPLE_RATE
from engine.phonemes import PhonemeSpan, load_spans, opening_of, pauses_of

pytestmark = pytest.mark.media

ASSETS = Path(str(files("stream"))) / "assets"
SOUND = ASSETS / "demo_speech.flac"


@pytest.fixture(scope="module")
def speech() -> NDArray[np.float32]:
    return read_audio(SOUND)


@pytest.fixture(scope="module")
def spans() -> list[PhonemeSpan]:
    return load_spans(ASSETS / "demo_speech.json")


def test_it_is_small_and_of_demo_length(speech: NDArray[np.float32]) -> None:
    assert SOUND.stat().st_size <= 400_000
    assert 11.0 < len(speech) / SAMPLE_RATE < 15.0
    assert 0.4 < np.abs(speech).max() < 0.99


def test_spans_cover_the_sound(speech: NDArray[np.float32], spans: list[PhonemeSpan]) -> None:
    assert spans[0].start_s == 0.0
    assert spans[-1].end_s == pytest.approx(len(speech) / SAMPLE_RATE, abs=0.005)
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(spans))


def test_pauses_are_silent_and_where_sentences_end(
    speech: NDArray[np.float32], spans: list[PhonemeSpan]
) -> None:
    pauses = pauses_of(spans, min_s=0.4)
    assert pauses[0][0] == 0.0
    assert pauses[-1][1] == spans[-1].end_s
    assert len(pauses) == 5  # the two ends and three between four sentences
    for start, end in pauses:
        quiet = speech[round((start + 0.02) * SAMPLE_RATE) : round((end - 0.02) * SAMPLE_RATE)]
        assert np.abs(quiet).max() < 1e-3


def test_the_mouth_opens_and_closes_many_times(spans: list[PhonemeSpan]) -> None:
    openings = opening_of(spans, np.arange(0.0, spans[-1].end_s, 0.04))
    assert openings[:8].max() < 0.01
    assert openings.max() > 0.85
    crossings = np.count_nonzero(np.diff((openings > 0.3).astype(np.int8)) == 1)
    assert crossings >= 12


def test_the_script_makes_it_again(tmp_path: Path, spans: list[PhonemeSpan]) -> None:
    demo_speech = pytest.importorskip("training.demo_speech")
    try:
        sound, times = demo_speech.write(tmp_path / "new")
    except ConfigError as error:
        pytest.skip(str(error))
    assert abs(len(read_audio(sound)) / SAMPLE_RATE - spans[-1].end_s) < 0.2
    again = load_spans(times)
    assert [s.symbol for s in again if s.silent] == [s.symbol for s in spans if s.silent]
