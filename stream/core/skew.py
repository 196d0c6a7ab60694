"""How far the picture and its sound are apart where they leave."""

from __future__ import annotations

import threading
from collections import deque
from statistics import median
from typing import Final

from stream.core.histogram import Quantiles

KNOWN_S: Final = 1.0
"""A report of the sound tells when sound leaves for this long."""

_RECENT = 60  # pictures, two seconds at the usual rates
_UNTAKEN = 600  # pictures, far more than between two calls of take()
_MOST_MS, _STEP_MS = 2000.0, 0.5


class SkewMeter:
    """Measures skew from what a sink reports to have left: + = the sound is late.

    The sound's reports say how long after coming in it leaves; a picture that leaves is compared
    with the sound that leaves at that moment. May be called from any thread.

    Attributes:
        intended_s: the skew that the user asked for, + = sound late; it is taken off.
    """

    def __init__(self) -> None:
        self.intended_s = 0.0
        self._lock = threading.Lock()
        self._sound: tuple[float, float] | None = None  # when it left, how long it was held
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._untaken: deque[float] = deque(maxlen=_UNTAKEN)
        self._sizes = Quantiles(0.0, _MOST_MS, _STEP_MS)
        self._signed = Quantiles(-_MOST_MS, _MOST_MS, _STEP_MS)

    def sound_left(self, content_s: float, at: float) -> None:
        """Sound left the sink, or is sure to.

        Args:
            content_s: when it came in, in session seconds.
            at: when it leaves, in session seconds.
        """
        with self._lock:
            self._sound = at, at - content_s

    def picture_left(self, content_s: float, at: float) -> float | None:
        """A picture left the sink, for the first time.

        Args:
            content_s: when it was taken, in session seconds.
            at: when it left, in session seconds.

        Returns:
            Its skew in seconds; None where no sound left within the second before.
        """
        with self._lock:
            if self._sound is None or at - self._sound[0] > KNOWN_S:
                return None
            held_s = self._sound[1]
            skew_s = content_s - (at - held_s) - self.intended_s
            self._recent.append(skew_s)
            self._untaken.append(skew_s)
            self._sizes.add(abs(skew_s) * 1000)
            self._signed.add(skew_s * 1000)
            return skew_s

    @property
    def now_ms(self) -> float | None:
        """The median skew of the last pictures, in ms; None where none was measured."""
        with self._lock:
            return median(self._recent) * 1000 if self._recent else None

    @property
    def signed_p50_ms(self) -> float | None:
        """The median skew of all pictures, in ms; None where none was measured."""
        with self._lock:
            return self._signed.quantile(0.5)

    def sizes_ms(self) -> dict[str, float | None]:
        """``p50``, ``p95`` and ``max`` of the skew's size, in ms; None where none was measured."""
        with self._lock:
            sizes = self._sizes
            return {"p50": sizes.quantile(0.5), "p95": sizes.quantile(0.95), "max": sizes.max}

    def take(self) -> list[float]:
        """The skews since the last call, in seconds."""
        with self._lock:
            taken = list(self._untaken)
            self._untaken.clear()
            return taken
