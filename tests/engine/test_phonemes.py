# ruff: noqa: RUF001  (letters of IPA)
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import MediaError
from engine.phonemes import (
    SILENCE,
    PhonemeSpan,
    load_spans,
    opening_of,
    pauses_of,
    save_spans,
    targets_of,
)

pytestmark = pytest.mark.unit


def word(*symbols: str, length_s: float = 0.12, start_s: float = 0.3) -> list[PhonemeSpan]:
    return [
        PhonemeSpan(start_s + i * length_s, start_s + (i + 1) * length_s, symbol)
        for i, symbol in enumerate(symbols)
    ]


def opening_at(spans: list[PhonemeSpan], index: int) -> float:
    middle = (spans[index].start_s + spans[index].end_s) / 2
    return float(opening_of(spans, [middle])[0])


def test_open_vowels_open_wider_than_mid_and_close_ones() -> None:
    openings = [opening_at(word(vowel, length_s=0.4), 0) for vowel in ("a", "ɛ", "ə", "i", "u")]
    assert openings == sorted(openings, reverse=True)
    assert openings[0] > 0.95
    assert 0.2 < openings[-1] < 0.4


@pytest.mark.parametrize("closure", ["p", "b", "m"])
def test_bilabials_close_the_mouth_between_open_vowels(closure: str) -> None:
    spans = word("a", closure, "a", length_s=0.14)
    assert opening_at(spans, 1) < 0.01
    assert opening_at(spans, 0) > 0.5


def test_labiodentals_nearly_close_and_free_consonants_follow_the_vowels() -> None:
    openings = {c: opening_at(word("a", c, "a", length_s=0.08), 1) for c in ("f", "t", "k", "h")}
    assert 0.03 < openings["f"] < 0.12
    assert openings["f"] < openings["t"] < openings["k"] < openings["h"]
    assert openings["h"] > 0.7


def test_silence_is_closed_and_uncovered_time_is_silence() -> None:
    spans = [PhonemeSpan(0.0, 0.5, SILENCE), *word("a", start_s=0.5), PhonemeSpan(0.62, 1.2, "SIL")]
    found = opening_of(spans, [-5.0, 0.1, 0.25, 1.0, 9.0])
    assert found.max() < 1e-3
    assert not opening_of([], [0.0, 1.0]).any()
    assert opening_of(spans, []).shape == (0,)


def test_a_diphthong_moves_from_its_first_vowel_to_its_second() -> None:
    spans = word("aɪ", length_s=0.4)
    early, late = opening_of(spans, [0.4, 0.62])
    assert early > 0.9
    assert late < 0.5


def test_the_curve_is_smooth_and_inside_its_range() -> None:
    spans = word("m", "aɪ", "m", "aʊ", "θ", "_", "f", "ɑː", "l", "oʊ", "z")
    curve = opening_of(spans, np.arange(0.0, 2.0, 0.005))
    assert curve.dtype == np.float32
    assert curve.min() >= 0.0
    assert curve.max() <= 1.0
    assert np.abs(np.diff(curve)).max() < 0.12  # of the full opening, in 5 ms


def test_the_order_of_spans_does_not_matter() -> None:
    spans = word("m", "a", "p", "s")
    times = np.arange(0.0, 1.0, 0.01)
    np.testing.assert_array_equal(opening_of(spans, times), opening_of(spans[::-1], times))


@pytest.mark.parametrize(
    ("arpabet", "ipa"), [("AE1", "æ"), ("AY", "aɪ"), ("JH", "dʒ"), ("NG", "ŋ"), ("SIL", SILENCE)]
)
def test_arpabet_means_the_same_as_ipa(arpabet: str, ipa: str) -> None:
    assert targets_of(PhonemeSpan(0, 1, arpabet)) == targets_of(PhonemeSpan(0, 1, ipa))


def test_marks_of_length_tone_and_voicing_change_nothing() -> None:
    assert targets_of(PhonemeSpan(0, 1, "ɑ̃ː")) == targets_of(PhonemeSpan(0, 1, "ɑ"))
    assert targets_of(PhonemeSpan(0, 1, "tʲ")) == targets_of(PhonemeSpan(0, 1, "t"))


def test_an_unknown_symbol_is_neither_silent_nor_wide_open() -> None:
    (target,) = targets_of(PhonemeSpan(0, 1, "?"))
    assert 0.1 < target.opening < 0.5


def test_pauses_join_neighbours_and_gaps_and_drop_short_ones() -> None:
    spans = [
        PhonemeSpan(0.0, 0.3, SILENCE),
        PhonemeSpan(0.3, 0.4, "a"),
        PhonemeSpan(0.4, 0.5, SILENCE),
        PhonemeSpan(0.5, 0.6, "n"),
        PhonemeSpan(0.7, 0.8, SILENCE),
        PhonemeSpan(0.8, 0.95, "SIL"),
        PhonemeSpan(0.95, 1.1, "o"),
        PhonemeSpan(1.1, 1.5, "+BREATH+"),
    ]
    expected = [(0.0, 0.3), (0.6, 0.95), (1.1, 1.5)]
    assert pauses_of(spans) == expected
    assert pauses_of(spans, min_s=0.05) == [expected[0], (0.4, 0.5), *expected[1:]]
    assert pauses_of([]) == []


@pytest.mark.parametrize("times", [(0.5, 0.4), (float("nan"), 1.0), (0.0, float("inf"))])
def test_impossible_times_are_refused(times: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="finite times"):
        PhonemeSpan(*times, "a")


def test_spans_survive_a_file(tmp_path: Path) -> None:
    spans = word("h", "ə", "l", "oʊ", SILENCE)
    save_spans(tmp_path / "spans.json", spans)
    again = load_spans(tmp_path / "spans.json")
    assert [span.symbol for span in again] == [span.symbol for span in spans]
    np.testing.assert_allclose(
        [(s.start_s, s.end_s) for s in again], [(s.start_s, s.end_s) for s in spans], atol=1e-4
    )
    assert json.loads((tmp_path / "spans.json").read_text("utf-8"))[0][2] == "h"


def test_a_pocketsphinx_alignment_gives_its_phones(tmp_path: Path) -> None:
    phones = [{"b": 0.2, "d": 0.1, "t": "AE"}, {"b": 0.3, "d": 0.05, "t": "N"}]
    tree = {"b": 0, "d": 1, "t": "an", "w": [{"b": 0.2, "d": 0.15, "t": "an", "w": phones}]}
    (tmp_path / "a.json").write_text(json.dumps(tree), "utf-8")
    spans = load_spans(tmp_path / "a.json")
    assert [s.symbol for s in spans] == ["AE", "N"]
    assert [s.end_s for s in spans] == pytest.approx([0.3, 0.35])


@pytest.mark.parametrize("text", ["", "[1, 2]", '[["a", "b", "c"]]', '{"b": 1}', "[[2, 1, 'a']]"])
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, "utf-8")
    with pytest.raises(MediaError, match="holds no phoneme times"):
        load_spans(tmp_path / "a.json")


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="check the path"):
        load_spans(tmp_path / "none.json")
    with pytest.raises(MediaError, match="writable"):
        save_spans(tmp_path / "none" / "a.json", [])


@pytest.mark.data
def test_real_alignments_parse_and_open_the_mouth_in_speech_only(data_dir: Path) -> None:
    files = sorted((data_dir / "librivox").glob("*.phone.json"))
    assert files
    for file in files:
        spans = load_spans(file)
        assert all(a.end_s <= b.start_s + 0.011 for a, b in itertools.pairwise(spans))
        times = np.arange(0.0, spans[-1].end_s, 0.04)
        openings = opening_of(spans, times)
        pauses = pauses_of(spans)
        inside = [any(a + 0.1 < t < b - 0.1 for a, b in pauses) for t in times]
        assert openings[np.array(inside)].max(initial=0.0) < 0.06
        assert 0.15 < openings[~np.array(inside)].mean() < 0.6
        assert openings.max() > 0.6
