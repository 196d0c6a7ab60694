"""Mel cepstra, which SyncNet v2 hears: the lip expert's filterbank, one transform further.

16 kHz samples at the scale of 16-bit integers → 26 log energies every 10 ms, as in
:mod:`engine.filterbank` → cosine transform → 13 values, the higher ones lifted, the first the
logarithm of the step's whole energy.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from engine.filterbank import log_bands, log_energy, power_spectra

CEPSTRA: Final = 13
_LIFTER: Final = 22


def mfcc(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cepstra of a whole sound, one row every 10 ms, the last window padded with zeros.

    Args:
        samples: float (n,), mono at 16 kHz in [−1, 1].

    Returns:
        float64 (m, 13), m = 1 + ceil((n − 400) / 160), at least 1.
    """
    power = power_spectra(samples)
    cepstra = np.asarray(fft.dct(log_bands(power), type=2, axis=1, norm="ortho"))[:, :CEPSTRA]
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(CEPSTRA) / _LIFTER)
    cepstra[:, 0] = log_energy(power)
    return cepstra
