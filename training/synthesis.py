"""Speech made by espeak-ng, with the time of every phoneme.

The voice is a machine's, but its phoneme times are exact, it speaks in many timbres and languages,
and it costs nothing: enough to teach an audio encoder when a mouth opens and when it closes.
"""

import ctypes
import ctypes.util
import itertools
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.mel import SAMPLE_RATE
from engine.phonemes import SILENCE, PhonemeSpan
from training.sentences import foreign_sentences, sentences

__all__ = ["VOICES", "corpus", "sentences", "speak"]

_LIBRARIES = ("libespeak-ng.so.1", "libespeak-ng.1.dylib", "libespeak-ng.dylib", "libespeak-ng.dll")
_HOMES = {
    "darwin": ("/opt/homebrew/lib", "/usr/local/lib"),
    "win32": (r"C:\Program Files\eSpeak NG",),
}

# From espeak-ng/speak_lib.h.
_SYNCHRONOUS = 2
_PHONEME_EVENTS = 0x0001
_PHONEME_IPA = 0x0002
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END_OF_LIST = 0
_EVENT_PHONEME = 7

# espeak-ng names neither pauses in IPA nor its linking sounds: the glide between two vowels
# ("Fiona") and the short vowel between two consonants ("camera"); these are as loud as speech.
_LINKS = {True: "j", False: "ə"}  # by whether a vowel stands before it
_LINK_LEVEL = 0.3
_VOWELS = frozenset("aæɑɐɒʌɛœɔɜeəɚɝɤoøɵɪᵻiɨɯʊʏuyʉː")  # noqa: RUF001  (letters of IPA)

_STOPS = tuple("pbtdkɡgcɟqʈɖ")  # noqa: RUF001  (a letter of IPA)
_STEP = 110  # samples at espeak-ng's 22 050 Hz: 5 ms
_LONGEST_CLOSURE = 22 * _STEP
_CLOSURE_LEVEL = 0.06  # some timbres have an echo at −30 dB

_TIMBRES = ("", *(f"+m{i}" for i in range(1, 8)), *(f"+f{i}" for i in range(1, 5)))
_ENGLISH = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland")

# British English is asked for by the name of its file.
_FILES = {"en-gb": "en"}

#: Voices that ``corpus`` draws from: English accents, each in twelve timbres.
VOICES = tuple(accent + timbre for accent in _ENGLISH for timbre in _TIMBRES)


class _Value(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("text", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("message", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("value", _Value),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Espeak:
    """The library, started once per process: it keeps its voice and settings in globals."""

    def __init__(self) -> None:
        self._library = _open_library()
        self._samples: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _CALLBACK(self._receive)  # kept alive: the library holds only a pointer
        options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
        self.sample_rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, options))
        if self.sample_rate <= 0:
            raise ConfigError(
                "espeak-ng finds no voice data: install it again"
                " (Debian package espeak-ng-data) or set ESPEAK_DATA_PATH"
            )
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, wave: object, count: int, events: object) -> int:
        index = 0
        while (event := events[index]).type != _EVENT_END_OF_LIST:  # type: ignore[index]
            if event.type == _EVENT_PHONEME:
                raw = ctypes.string_at(ctypes.addressof(event.value), 8).split(b"\0")[0]
                self._events.append((int(event.sample), raw.decode("utf-8", "ignore")))
            index += 1
        if wave and count > 0:
            pointer = ctypes.cast(wave, ctypes.POINTER(ctypes.c_short))  # type: ignore[arg-type]
            self._samples.append(np.ctypeslib.as_array(pointer, (count,)).copy())
        return 0

    def speak(
        self, text: str, voice: str, rate_wpm: int, pitch: int, pitch_range: int
    ) -> tuple[NDArray[np.int16], list[tuple[int, str]]]:
        """Samples and (sample number, IPA name) of every phoneme's start."""
        self._samples, self._events = [], []
        library = self._library
        language, plus, timbre = voice.partition("+")
        name = _FILES.get(language, language) + plus + timbre
        # A voice keeps the timbre of the one before it unless a plain voice is set in between.
        if library.espeak_SetVoiceByName(name.split("+")[0].encode()) != 0 or (
            library.espeak_SetVoiceByName(name.encode()) != 0
        ):
            raise ConfigError(
                f"espeak-ng has no voice {voice!r}: `espeak-ng --voices` lists those it has"
            )
        for parameter, value in ((_RATE, rate_wpm), (_PITCH, pitch), (_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        failed = library.espeak_Synth(
            data, len(data) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if failed or not self._samples:
            raise ConfigError(f"espeak-ng made no sound of {text!r}: give it words to speak")
        return np.concatenate(self._samples), self._events


def _open_library() -> ctypes.CDLL:
    chosen = os.environ.get("LIPSTREAM_ESPEAK")
    names = [chosen] if chosen else [ctypes.util.find_library("espeak-ng") or "", *_LIBRARIES]
    if not chosen:
        names += [
            str(Path(home) / name) for home in _HOMES.get(sys.platform, ()) for name in _LIBRARIES
        ]
    for name in names:
        try:
            if name:
                return ctypes.CDLL(name)
        except OSError:
            continue
    raise ConfigError(
        "the library of espeak-ng is missing: install it (Debian and Ubuntu:"
        " `apt install libespeak-ng1`, macOS: `brew install espeak-ng`, Windows: the installer of"
        " espeak-ng's releases) or name the file in LIPSTREAM_ESPEAK"
    )


@cache
def _espeak() -> _Espeak:
    return _Espeak()


def _closure(wave: NDArray[np.int16], before: tuple[int, str], burst: int, loudness: float) -> int:
    """Where a stop starts: with the silence of its closure.

    espeak-ng reports a stop at its burst, so that its closure would count as part of the vowel
    before it. Of a pause before it the closure takes half at most, of a sound all that is silent.
    """
    at, name = before
    earliest = max(burst - _LONGEST_CLOSURE, at if name else (at + burst) // 2)
    start = burst
    while start - _STEP >= earliest and not _sounds(
        wave[start - _STEP : start], loudness, _CLOSURE_LEVEL
    ):
        start -= _STEP
    return start


def _sounds(wave: NDArray[np.int16], loudness: float, level: float) -> bool:
    """Whether a stretch is louder than ``level`` times the whole."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) > level * loudness


def speak(
    text: str,
    voice: str = "en-us",
    *,
    rate_wpm: int = 165,
    pitch: int = 50,
    pitch_range: int = 50,
) -> tuple[NDArray[np.float32], int, list[PhonemeSpan]]:
    """Speak a text.

    espeak-ng carries a little from one utterance to the next, so that saying the same again may
    differ by a few samples; the first sounds of a process are always the same.

    Args:
        text: what to say; punctuation makes pauses.
        voice: an espeak-ng voice, with a timbre after ``+`` (``"en-us+f3"``).
        rate_wpm: speed in words per minute, 80..450.
        pitch: base pitch, 0..100, 50 is the voice's own.
        pitch_range: liveliness of the intonation, 0..100, 0 is monotone.

    Returns:
        The samples, mono float32 in [-1, 1]; their rate in Hz; and the phonemes in IPA with pauses
        as ``engine.phonemes.SILENCE``, which together cover the samples from the first to the last.

    Raises:
        ConfigError: espeak-ng or the voice is missing, or the text says nothing.
    """
    engine = _espeak()
    wave, events = engine.speak(text, voice, rate_wpm, pitch, pitch_range)
    rate = engine.sample_rate
    loudness = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
    spans: list[PhonemeSpan] = []
    starts = [(0, ""), *events, (len(wave), "")]
    starts = [(min(at, len(wave)), name) for at, name in starts]
    for i in range(1, len(starts) - 1):
        at, name = starts[i]
        if name.startswith(_STOPS):
            starts[i] = _closure(wave, starts[i - 1], at, loudness), name
    for (start, name), (end, _) in itertools.pairwise(starts):
        if end <= start:
            continue
        symbol = name or SILENCE
        if not name and spans and _sounds(wave[start:end], loudness, _LINK_LEVEL):
            symbol = _LINKS[spans[-1].symbol[-1] in _VOWELS]
        if spans and spans[-1].silent and symbol == SILENCE:
            spans[-1] = PhonemeSpan(spans[-1].start_s, end / rate, SILENCE)
        else:
            spans.append(PhonemeSpan(start / rate, end / rate, symbol))
    samples: NDArray[np.float32] = wave.astype(np.float32) / np.float32(32768.0)
    return samples, rate, spans


def corpus(
    seed: int, n: int, *, foreign_share: float = 0.15
) -> Iterator[tuple[NDArray[np.float32], list[PhonemeSpan]]]:
    """Varied synthetic speech for training.

    Voice, timbre, speed (130..190 words a minute), pitch, intonation and level (−26..−14 dBFS) are
    drawn anew for every utterance.

    Args:
        seed: a fresh process makes the same corpus of the same seed with the same espeak-ng.
        n: how many utterances, each about 3 to 8 s.
        foreign_share: share of utterances in German, Spanish, French, Italian, Portuguese, Dutch,
            Polish, Swedish or Turkish, 0..1.

    Yields:
        Mono float32 samples at 16 kHz in [-1, 1], and the phonemes that cover them.

    Raises:
        ConfigError: espeak-ng is missing.
    """
    rng = np.random.default_rng(seed)
    foreign = foreign_sentences()
    for text in sentences(seed, n):
        voice = str(rng.choice(VOICES))
        if rng.random() < foreign_share:
            language, texts = foreign[int(rng.integers(len(foreign)))]
            text = " ".join(str(t) for t in rng.choice(texts, size=2, replace=False))
            voice = language + str(rng.choice(_TIMBRES))
        samples, rate, spans = speak(
            text,
            voice,
            rate_wpm=int(rng.integers(130, 191)),
            pitch=int(rng.integers(30, 71)),
            pitch_range=int(rng.integers(30, 71)),
        )
        speech = np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), dtype=np.float32)
        level = 10.0 ** (rng.uniform(-26.0, -14.0) / 20.0)
        loudness = float(np.sqrt(np.mean(np.square(speech)))) + 1e-9
        gain = min(level / loudness, 0.99 / (float(np.abs(speech).max()) + 1e-9))
        yield speech * np.float32(gain), spans
