"""The virtual camera that Zoom, Teams and browsers choose, fed through pyvirtualcam."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

from engine.errors import ConfigError, LipstreamError, MediaError
from stream.core.sinks import Shown
from stream.doctor_checks import Loopback
from stream.live.cameras import Clock
from stream.live.card import still_card
from stream.live.picture_fit import fit

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
START_LINES: Final = ("lipstream is starting",)

_JOIN_S: Final = 2.0
# Of a slot: how much later a slot may be for a picture that is just coming, so that pictures of the
# device's own rate do not come now just before, now just after it. Then the slots follow: a camera
# slower than the device by a hair waits for none of them. Less than a sixth, else pictures at 25 a
# second would pull the device's 30 down to 25.
_GRACE: Final = 0.15

Wait: TypeAlias = Callable[[threading.Condition, float], object]
"""Waits on a condition that is held, for so many seconds at most."""


class VirtualCamera:
    """Sends the newest picture at the device's rate, and the last one again where none is new.

    The device is opened and gets a card at once: what is missing shows before the session
    begins, and other programs find a camera that gives pictures. Where it is lost later, opening
    is tried again every second.

    Args:
        width: of the device in pixels; pictures of other sizes are fitted in.
        height: of the device in pixels.
        fps: of the device.
        clock: session seconds.
        device: its path or label; the first free one by default.
        backend: pyvirtualcam's; its own choice by default.
        on_left: called in a thread for each new picture that was sent, with its pts and the
            session time.
        wait: waits for pictures.

    Attributes:
        trouble: one sentence while the device is gone, else None.
        sent: pictures sent, repeated ones included.
        repeated: of these, how many were sent once more.
        dropped: pictures that a newer one replaced before they were sent.

    Raises:
        ConfigError: pyvirtualcam is missing.
        MediaError: there is no such device, or another program has it.
    """

    def __init__(
        self,
        width: int,
        height: int,
        fps: int,
        *,
        clock: Clock,
        device: str | None = None,
        backend: str | None = None,
        on_left: Callable[[float, float], object] = lambda content_s, at: None,
        wait: Wait = threading.Condition.wait,
    ) -> None:
        self.trouble: str | None = None
        self.sent = self.repeated = self.dropped = 0
        self._size, self._fps = (width, height), fps
        self._clock, self._wait, self._on_left = clock, wait, on_left
        self._wanted, self._backend = device, backend
        self._change = threading.Condition()
        self._newest: Shown | None = None
        self._stopped = threading.Event()
        # The thread's: what the device shows, its number if it is a picture, the next slot.
        self._picture = still_card(None, width, height, START_LINES)
        self._number: int | None = None
        self._due = 0.0
        self._camera: Any = None
        self._lock: int | None = None
        self._open()

    @property
    def state(self) -> Literal["running", "waiting"]:
        """Whether pictures are sent, or the device is waited for."""
        return "running" if self.trouble is None else "waiting"

    def show(self, shown: Shown) -> None:
        """Take a picture; it leaves with the next slot unless a newer one comes before."""
        with self._change:
            self.dropped += self._newest is not None
            self._newest = shown
            self._change.notify_all()

    async def run(self) -> None:
        """Send until cancelled, then free the device."""
        thread = threading.Thread(target=self._work, name="virtual camera", daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._stop()
            await asyncio.to_thread(thread.join, _JOIN_S)

    # The thread

    def _stop(self) -> None:
        with self._change:
            self._stopped.set()
            self._change.notify_all()

    def _work(self) -> None:
        try:
            while not self._stopped.is_set():
                if self._camera is None:
                    self._try_again()
                else:
                    self._slot()
        except Exception:
            log.exception("the virtual camera's thread failed")
            self.trouble = "The virtual camera failed; start lipstream again."
        finally:
            self._close()

    def _slot(self) -> None:
        """Wait for the next slot and fill it."""
        shown = self._next()
        if self._stopped.is_set():
            return
        if shown is not None:
            self._picture = fit(shown.picture, *self._size)
        try:
            self._camera.send(self._picture)
        except Exception as error:  # backends raise what they like
            log.warning("the virtual camera failed: %s", error)
            self.trouble = (
                f"The virtual camera is gone ({_one_line(error)}); it goes on when it is back."
            )
            self._close()
            return
        self.sent += 1
        if shown is None:
            self.repeated += self._number is not None
        elif shown.number != self._number:
            self._number = shown.number
            self._on_left(shown.pts, self._clock())

    def _next(self) -> Shown | None:
        """What fills the next slot, once that has come; None: the last picture once more."""
        period = 1 / self._fps
        with self._change:
            self._due = min(self._due, self._clock() + period)  # the clock may be set back
            self._wait_until(self._due)
            if self._newest is None and self._wait_until(self._due + _GRACE * period, early=True):
                self._due = self._clock()
            shown, self._newest = self._newest, None
            # Where it is behind, slots are left out: never less than half a slot between two.
            self._due = max(self._due + period, self._clock() + period / 2)
        return shown

    def _wait_until(self, at: float, *, early: bool = False) -> bool:
        """Wait for a time, or for a picture if that is ``early``; returns whether there is one."""
        before = left = at - self._clock()
        while not self._stopped.is_set() and 0 < left <= before:  # more: the clock was set back
            if early and self._newest is not None:
                break
            self._wait(self._change, left)
            before, left = left, at - self._clock()
        return self._newest is not None

    def _try_again(self) -> None:
        with self._change:
            self._wait_until(self._clock() + RETRY_S)
        if self._stopped.is_set():
            return
        try:
            self._open()
        except LipstreamError as error:
            self.trouble = str(error)

    def _open(self) -> None:
        try:
            import pyvirtualcam
        except ImportError as error:
            raise ConfigError(
                "The package pyvirtualcam is missing; run `python -m pip install pyvirtualcam`."
            ) from error
        device = self._wanted
        if sys.platform == "linux" and self._backend is None:
            device = choose(device, _loopbacks())
        try:
            self._camera = pyvirtualcam.Camera(
                *self._size, self._fps, device=device, backend=self._backend
            )
            self._lock = _locked(str(self._camera.device))
            self._camera.send(self._picture)
        except Exception as error:  # backends raise what they like
            self._close()
            said = "already in use" if isinstance(error, BlockingIOError) else _one_line(error)
            raise MediaError(refusal(said, self._wanted, sys.platform)) from error
        self._due = self._clock() + 1 / self._fps
        self.trouble = None

    def _close(self) -> None:
        camera, self._camera = self._camera, None
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)
        if camera is not None:
            try:
                camera.close()
            except Exception as error:
                log.debug("the virtual camera did not close: %s", error)


def choose(wanted: str | None, devices: Sequence[Loopback]) -> str | None:
    """The device file of v4l2loopback that a user means.

    Args:
        wanted: a path or a label; None: the first one that nothing plays into.
        devices: those that there are.

    Returns:
        Its path; what was asked for where no device has that label; None where there is no choice.
    """
    if wanted is not None:
        return next((device.path for device in devices if device.label == wanted), wanted)
    return next((device.path for device in devices if not device.busy and device.writable), None)


def refusal(said: str, device: str | None, system: str) -> str:
    """Why the device can't be opened and what to do, in one sentence.

    Args:
        said: pyvirtualcam's words, of 0.15.
        device: as the user named it; None: any.
        system: ``linux``, ``darwin`` or ``win32``.
    """
    name, words = device or "The virtual camera", said.lower()
    if any(word in words for word in ("busy", "in use", "could not be started", "start stream")):
        step = (
            "stop the other lipstream, or the virtual camera of OBS"
            if system == "linux"
            else "click “Stop Virtual Camera” in OBS, or stop the other lipstream"
        )
        return f"{name} is in use by another program; {step}."
    if "permission" in words:
        return f"{name} may not be opened; run `sudo usermod -aG video $USER`, then log in again."
    if "supports only" in words:
        return f"There is no virtual camera {device!r}; leave --virtual-camera out."
    if system == "linux":
        step = "run `sudo modprobe v4l2loopback devices=1 exclusive_caps=1 card_label=lipstream`"
    else:
        step = "install OBS Studio, start its virtual camera once and quit OBS"
    return f"{name} can't be opened ({said}); {step}, or give --virtual-camera off."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _loopbacks() -> Sequence[Loopback]:
    from stream.doctor_linux import loopback

    return loopback().devices


def _locked(path: str) -> int | None:
    """A lock on a device file, for v4l2loopback lets several programs play into one device.

    Returns:
        The lock; it is freed by closing this file. None where the device is no file.

    Raises:
        BlockingIOError: another lipstream has it.
    """
    if not path.startswith("/dev/"):
        return None
    import fcntl  # there is none on Windows

    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise
    except OSError:
        os.close(file)
        return None
    return file
