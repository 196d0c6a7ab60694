"""The mouth opening that phoneme times imply.

Symbols are IPA (what espeak-ng reports with its IPA option, in every language it speaks) or ARPAbet
(what English aligners write: ``AE``, ``AH0``, ``SIL``), told apart by their case: ARPAbet is upper
case only. Length, tone, stress and secondary-articulation marks are ignored.

The table is coarse. It orders phonemes by how far the inner lips part in careful English speech
(closed for bilabials, widest for open vowels) and is the same for every speaker, stress and style;
it is good enough to tell an open mouth from a closed one, not to measure a lip gap in millimetres.
Coarticulation follows the dominance model of Cohen and Massaro (1993): each phoneme pulls the mouth
to its target with a weight of its own, so that vowels prevail over consonants that leave the lips
free (k, h), and the lip closures of p, b, m, f and v are reached whatever surrounds them.
"""

# ruff: noqa: RUF001  (the letters of IPA are meant)

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import MediaError

SILENCE = "_"

_SILENT = frozenset({"", "_", "_:", "SIL", "SP", "SPN", "<sil>", "sil", "pau"})
_GRID_S = 0.005
_SIGMA_S = 0.045
_CLOSURE_RAMP_S = 0.09  # lips take about this long between an open vowel and a closure
_FIRST_SHARE = 0.6  # of a diphthong's time its first vowel's


class Target(NamedTuple):
    """What a phoneme, or a part of one, asks of the mouth.

    Attributes:
        opening: the opening it aims at, 0..1.
        dominance: how strongly it pulls, > 0.
        hold: the share of its time, 0..1 from its start, in which the lips are held there whatever
            surrounds them; 0 for all but closures of the lips.
    """

    opening: float
    dominance: float
    hold: float = 0.0


def _classes(*rows: tuple[str, Target]) -> dict[str, Target]:
    return {letter: target for letters, target in rows for letter in letters}


# By letter of IPA.
_TABLE = _classes(
    # vowels, from open to close; rounded ones part the lips less at the same height
    ("aæ", Target(1.0, 1.0)),
    ("ɑɐɶ", Target(0.9, 1.0)),
    ("ɒʌ", Target(0.7, 1.0)),
    ("ɛɞœ", Target(0.65, 1.0)),
    ("ɔɜ", Target(0.6, 1.0)),
    ("e", Target(0.5, 1.0)),
    ("əɘɚɝɤ", Target(0.45, 0.7)),
    ("oøɵ", Target(0.42, 1.0)),
    ("ɪᵻ", Target(0.38, 0.9)),
    ("iɨɯ", Target(0.34, 1.0)),
    ("ʊʏ", Target(0.3, 0.9)),
    ("uyʉ", Target(0.25, 1.0)),
    # lips
    ("pbɓ", Target(0.0, 1.2, hold=0.65)),  # the rest is the release
    ("m", Target(0.0, 1.2, hold=0.9)),
    ("fvɱ", Target(0.07, 1.0, hold=0.9)),
    ("ɸβ", Target(0.1, 1.0)),
    ("ʋ", Target(0.14, 0.8)),
    ("wʍɥ", Target(0.14, 0.9)),
    # tongue tip and teeth: the jaw is nearly closed for sibilants
    ("szɕʑ", Target(0.15, 0.8)),
    ("ʃʒʂʐ", Target(0.2, 0.8)),
    ("θðɬɮ", Target(0.2, 0.5)),
    ("tdnlɗɾɹrɻɺʈɖɳɽɭɫ", Target(0.22, 0.4)),
    # tongue body and throat: the lips stay with the neighbouring vowels
    ("jʝçcɟɲʎ", Target(0.25, 0.4)),
    ("kgɡŋxɣɰɠ", Target(0.25, 0.25)),
    ("qɢɴχʁʀ", Target(0.3, 0.2)),
    ("hɦħʕʔʜʢ", Target(0.3, 0.1)),
)  # fmt: skip
_REST = Target(0.0, 1.0)
_UNKNOWN = Target(0.25, 0.3)

_ARPABET = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "aʊ", "AX": "ə", "AXR": "ɚ", "AY": "aɪ",
    "B": "b", "CH": "tʃ", "D": "d", "DH": "ð", "DX": "ɾ", "EH": "ɛ", "ER": "ɝ", "EY": "eɪ",
    "F": "f", "G": "g", "HH": "h", "IH": "ɪ", "IX": "ɨ", "IY": "i", "JH": "dʒ", "K": "k",
    "L": "l", "M": "m", "N": "n", "NG": "ŋ", "OW": "oʊ", "OY": "ɔɪ", "P": "p", "R": "ɹ",
    "S": "s", "SH": "ʃ", "T": "t", "TH": "θ", "UH": "ʊ", "UW": "u", "V": "v", "W": "w",
    "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PhonemeSpan:
    """One phoneme or one silence.

    Attributes:
        start_s: where it starts, in seconds.
        end_s: where it ends, in seconds; never before ``start_s``.
        symbol: its IPA or ARPAbet name; ``"_"`` for silence.

    Raises:
        ValueError: a time is not finite, or the end lies before the start.
    """

    start_s: float
    end_s: float
    symbol: str

    def __post_init__(self) -> None:
        if not (np.isfinite(self.start_s) and self.start_s <= self.end_s < np.inf):
            raise ValueError(
                f"the phoneme {self.symbol!r} runs from {self.start_s} s to {self.end_s} s:"
                " give finite times with the end at or after the start"
            )

    @property
    def silent(self) -> bool:
        """Whether this is a pause; noises and breaths of aligners (``+BREATH+``) count as such."""
        return self.symbol in _SILENT or self.symbol.startswith("+")


def targets_of(span: PhonemeSpan) -> list[Target]:
    """What a phoneme asks of the mouth.

    Args:
        span: the phoneme.

    Returns:
        The target of each of its parts in turn: one for most phonemes, two for diphthongs and
        affricates. Symbols outside the table count as a weak consonant.
    """
    if span.silent:
        return [_REST]
    name = span.symbol
    if name.isascii() and name.isupper():
        name = _ARPABET.get(name.rstrip("012"), name.lower())
    return [_TABLE[letter] for letter in name if letter in _TABLE] or [_UNKNOWN]


def _parts(spans: Iterable[PhonemeSpan]) -> list[tuple[float, float, Target]]:
    """(start_s, end_s, target) of every part of every phoneme."""
    parts = []
    for span in spans:
        targets = targets_of(span)
        if len(targets) == 2:
            shares = [0.0, _FIRST_SHARE, 1.0]
        else:
            shares = [i / len(targets) for i in range(len(targets) + 1)]
        length = span.end_s - span.start_s
        for target, (a, b) in zip(targets, pairwise(shares), strict=True):
            parts.append((span.start_s + a * length, span.start_s + b * length, target))
    return parts


def opening_of(spans: Sequence[PhonemeSpan], times_s: ArrayLike) -> NDArray[np.float32]:
    """The mouth opening (inner-lip gap) that the phonemes imply.

    Args:
        spans: phonemes in any order; stretches that none covers count as silence.
        times_s: (n,) times in seconds, on the clock of the spans.

    Returns:
        (n,) float32 in 0..1: 0 is closed, about 1 a long open vowel. Silence rests at 0; targets
        are smoothed by a Gaussian of 45 ms weighted by dominance, and lip closures stay closed.
    """
    times = np.asarray(times_s, dtype=np.float64).reshape(-1)
    parts = _parts(spans)
    if times.size == 0 or not parts:
        return np.zeros(times.size, np.float32)
    margin = 4 * _SIGMA_S
    first = min(part[0] for part in parts) - margin
    last = max(part[1] for part in parts) + margin
    cells = int(np.ceil((last - first) / _GRID_S)) + 1
    grid: NDArray[np.float64] = first + _GRID_S * np.arange(cells, dtype=np.float64)

    opening = np.full(cells, _REST.opening)
    weight = np.full(cells, _REST.dominance)
    ceiling = np.full(cells, 1.0)
    for start, end, target in parts:
        a, b = np.searchsorted(grid, (start, end))
        opening[a:b] = target.opening
        weight[a:b] = target.dominance
        if target.hold:
            _close(ceiling, grid, start, start + target.hold * (end - start), target.opening)

    reach = int(np.ceil(margin / _GRID_S))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _GRID_S / _SIGMA_S) ** 2)
    smooth = _convolve(opening * weight, kernel) / _convolve(weight, kernel)
    curve = np.minimum(smooth, ceiling)
    found = np.interp(times, grid, curve, left=_REST.opening, right=_REST.opening)
    return np.asarray(np.clip(found, 0.0, 1.0), dtype=np.float32)


def _convolve(values: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Same-length smoothing whose ends repeat the edge values."""
    reach = len(kernel) // 2
    return np.convolve(np.pad(values, reach, mode="edge"), kernel, mode="valid")


def _close(
    ceiling: NDArray[np.float64],
    grid: NDArray[np.float64],
    start_s: float,
    end_s: float,
    opening: float,
) -> None:
    """Lower the ceiling to one closure of the lips, with raised-cosine ramps around it."""
    a, b = np.searchsorted(grid, (start_s - _CLOSURE_RAMP_S, end_s + _CLOSURE_RAMP_S))
    near = grid[a:b]
    away = np.maximum(np.maximum(start_s - near, near - end_s), 0.0)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.minimum(away / _CLOSURE_RAMP_S, 1.0))
    ceiling[a:b] = np.minimum(ceiling[a:b], opening + (1.0 - opening) * ramp)


def pauses_of(spans: Iterable[PhonemeSpan], min_s: float = 0.2) -> list[tuple[float, float]]:
    """Silent stretches between, before and after phonemes, as far as spans say so.

    Args:
        spans: phonemes in any order. Silence is a span marked silent; a gap between two spans is
            silence too.
        min_s: the shortest stretch to report, in seconds.

    Returns:
        (start_s, end_s) of each, in order; neighbouring silences are one.
    """
    ordered = sorted(spans, key=lambda span: (span.start_s, span.end_s))
    pauses: list[tuple[float, float]] = []
    if not ordered:
        return pauses
    silent_from = ordered[0].start_s
    until = silent_from
    for span in ordered:
        if span.silent:
            until = max(until, span.end_s)
            continue
        if span.start_s - silent_from >= min_s:
            pauses.append((silent_from, span.start_s))
        silent_from = max(silent_from, span.end_s)
        until = max(until, silent_from)
    if until - silent_from >= min_s:
        pauses.append((silent_from, until))
    return pauses


def save_spans(path: str | Path, spans: Iterable[PhonemeSpan]) -> None:
    """Write spans as JSON: a list of ``[start_s, end_s, symbol]``, times to 0.1 ms.

    Args:
        path: the file to write.
        spans: what to write, in this order.

    Raises:
        MediaError: the file can't be written.
    """
    rows = [
        json.dumps([round(s.start_s, 4), round(s.end_s, 4), s.symbol], ensure_ascii=False)
        for s in spans
    ]
    try:
        Path(path).write_text("[\n " + ",\n ".join(rows) + "\n]\n", encoding="utf-8")
    except OSError as error:
        raise MediaError(
            f"the phoneme times can't be written to {path} ({error.strerror}):"
            " choose a folder that exists and is writable"
        ) from error


def load_spans(path: str | Path) -> list[PhonemeSpan]:
    """Read phoneme times.

    Args:
        path: a JSON file, either a list of ``[start_s, end_s, symbol]`` or an alignment of
            pocketsphinx (objects ``{"b": start, "d": length, "t": name, "w": [parts]}``, of which
            the innermost are the phones).

    Returns:
        The spans in the file's order.

    Raises:
        MediaError: the file is missing or holds something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return _phones(found)
        return [PhonemeSpan(float(a), float(b), str(symbol)) for a, b, symbol in found]
    except OSError as error:
        raise MediaError(
            f"the phoneme times {path} can't be read ({error.strerror}): check the path"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MediaError(
            f"{path} holds no phoneme times ({error}):"
            " give a JSON list of [start_s, end_s, symbol] or a pocketsphinx alignment"
        ) from error


def _phones(node: dict[str, object]) -> list[PhonemeSpan]:
    """The innermost parts of a pocketsphinx alignment; their times are absolute."""
    parts = node.get("w")
    if isinstance(parts, list):
        return [span for part in parts for span in _phones(part)]
    start = float(str(node["b"]))
    return [PhonemeSpan(start, start + float(str(node["d"])), str(node["t"]))]
