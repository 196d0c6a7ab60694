"""The same words by another speaker: pitch and vocal tract of a recording changed by WORLD.

One speaker's clips teach an audio encoder that one voice. WORLD (Morise, Yokomori and Ozawa 2016)
takes speech apart into pitch, spectral envelope and breath and puts it together again, so the lips
of a clip get a woman's or a child's voice with every sound still where it was.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.mel import SAMPLE_RATE

_LOWEST_HZ, _HIGHEST_HZ = 60.0, 400.0  # of a voice's pitch
_LEAST_POWER = 1e-12
_LEAST_BREATH, _MOST_BREATH = 0.001, 0.999


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """How a voice differs from the recorded one.

    Attributes:
        pitch: factor on its mean pitch.
        melody: factor on the logarithm of how far pitch strays from its mean.
        formants: factor on the frequencies of the formants: above 1 for a shorter vocal tract.
        breath: factor on the share of noise.
    """

    pitch: float = 1.0
    melody: float = 1.0
    formants: float = 1.0
    breath: float = 1.0

    @classmethod
    def draw(cls, chance: np.random.Generator) -> Self:
        """Somebody: two times in three like a woman or a child, else like a man."""
        high = chance.random() < 2 / 3
        pitch, formants = ((1.5, 2.3), (1.08, 1.28)) if high else ((0.75, 1.4), (0.88, 1.1))
        return cls(
            pitch=float(np.exp(chance.uniform(*np.log(pitch)))),
            melody=float(chance.uniform(0.7, 1.8)),
            formants=float(chance.uniform(*formants)),
            breath=float(chance.uniform(0.8, 1.6)),
        )


def change_voice(samples: NDArray[np.float32], voice: Voice) -> NDArray[np.float32]:
    """Speak a recording with another voice.

    Args:
        samples: float32 (n,) in [-1, 1] at 16 kHz, one speaker.
        voice: how it shall sound.

    Returns:
        float32 (n,), every sound where it was.

    Raises:
        ConfigError: the library ``pyworld`` is not installed.
    """
    world = _world()
    wave = np.ascontiguousarray(samples, np.float64)
    rough, times = world.dio(wave, SAMPLE_RATE, f0_floor=_LOWEST_HZ, f0_ceil=_HIGHEST_HZ)
    pitch = world.stonemask(wave, rough, times, SAMPLE_RATE)
    envelope = world.cheaptrick(wave, pitch, times, SAMPLE_RATE)
    breath = world.d4c(wave, pitch, times, SAMPLE_RATE)
    voiced = pitch > 0
    if voiced.any():
        mean = np.exp(np.log(pitch[voiced]).mean())
        pitch[voiced] = mean * voice.pitch * (pitch[voiced] / mean) ** voice.melody
    power = np.exp(_stretched(np.log(envelope + _LEAST_POWER), voice.formants))
    noise = np.clip(_stretched(breath, voice.formants) * voice.breath, _LEAST_BREATH, _MOST_BREATH)
    made = world.synthesize(pitch, power, noise, SAMPLE_RATE)[: len(wave)]
    whole = np.pad(made, (0, len(wave) - len(made)))
    return np.asarray(np.clip(whole, -1, 1), np.float32)


def _stretched(rows: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Spectra (frames, bins) with what was at a frequency at ``factor`` times it."""
    bins = np.arange(rows.shape[1])
    return np.ascontiguousarray([np.interp(bins / factor, bins, row) for row in rows])


def _world() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks setuptools for its own version
        try:
            import pyworld
        except ImportError as error:
            raise ConfigError(
                f"Other voices need the library pyworld, which can't be loaded ({error}): install"
                ' it with `pip install "lipstream[voices]"`, which takes a C++ compiler, or leave'
                " --voices out."
            ) from error
    return pyworld
