"""A sound device that is kept open: watched, and opened again when it comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import LipstreamError, MediaError
from stream.live.portaudio import OpenStream, PortAudio, portaudio
from stream.live.sound_devices import Kind
from stream.live.worker import Worker

log = logging.getLogger(__name__)

State = Literal["opening", "running", "waiting"]
Handler = Callable[[NDArray[np.float32], OpenStream, Any], None]
"""Takes or fills float32 (n, channels) in PortAudio's thread; the last argument are its times."""

POLL_S: Final = 0.1
RETRY_S: Final = 1.0
SILENT_S: Final = 1.0
"""A device that does not call for this long is gone."""

# A null sink of PulseAudio takes two seconds to see that somebody plays.
_START_S, _START_SILENT_S = 5.0, 3.0
_OPEN_S, _CLOSE_S = 10.0, 2.0  # a driver that takes longer hangs


class _Run:
    """A device from one opening to its closing; called in PortAudio's thread."""

    stream: OpenStream

    def __init__(self, clock: Callable[[], float], handle: Handler) -> None:
        self._clock = clock
        self._handle = handle
        self.began = self.called = 0.0  # session seconds
        self.ended = False

    def call(self, buffer: NDArray[np.float32], count: int, times: Any, flags: Any) -> None:
        self.called = self._clock()
        self._handle(buffer, self.stream, times)

    def finish(self) -> None:
        self.ended = True


class SoundStream:
    """One direction of one device, for as long as the session lasts.

    Args:
        device: see :func:`stream.live.sound_devices.pick`.
        kind: its direction.
        clock: session seconds.
        handle: what to do with sound.
        opened: called, in some thread, each time before the first sound.
        poll: called on the event loop about every 100 ms.
        system: PortAudio; the process's own by default.
        pause: waits so many seconds.

    Attributes:
        state: ``waiting`` while the device is gone or can't be opened.
        trouble: then one sentence, else None.
        stream: what is open, if anything.
        opens: how often the device was opened.
    """

    def __init__(
        self,
        device: str,
        kind: Kind,
        clock: Callable[[], float],
        handle: Handler,
        *,
        opened: Callable[[OpenStream], None] = lambda stream: None,
        poll: Callable[[], None] = lambda: None,
        system: PortAudio | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._wanted = device
        self._kind = kind
        self._clock = clock
        self._handle = handle
        self._opened = opened
        self._poll = poll
        self._system = system or portaudio()
        self._pause = pause
        self._worker = Worker(f"sound {kind}")
        self._relisted = False
        self._logged: str | None = None
        self.state: State = "opening"
        self.trouble: str | None = None
        self.stream: OpenStream | None = None
        self.opens = 0
        self._run: _Run | None = None

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                if await self._open():
                    await self._watch()
                    await self._close()
                else:
                    await self._pause(POLL_S if self._system.relisting else RETRY_S)
        finally:
            await self._close()
            self._worker.leave()

    async def _open(self) -> bool:
        waiting = self.state == "waiting"
        given_up = False

        def work() -> _Run:
            run = self._try(waiting)
            if given_up:
                self._system.close(run.stream)
            else:
                self._run = run
            return run

        try:
            run = await asyncio.wait_for(self._worker.do(work), _OPEN_S)
        except TimeoutError:
            given_up = True
            self._leave_worker()
            self._wait(
                f"The sound {self._kind} {self._wanted!r} does not answer; it is tried again."
            )
        except LipstreamError as error:
            if not self._system.relisting:
                self._wait(str(error))
        except Exception:
            log.exception("a sound device can't be opened")
            self._wait(f"The sound {self._kind} {self._wanted!r} failed; it is tried again.")
        else:
            self._running(run.stream)
            return True
        return False

    def _try(self, waiting: bool) -> _Run:
        """Open and start the device; in the worker's thread."""
        system, kind = self._system, self._kind
        if waiting:
            if not system.there(self._wanted, kind):
                raise MediaError(self.trouble or "")
            if system.outdated(self._wanted, kind):
                self._relist()
        run = _Run(self._clock, self._handle)
        try:
            run.stream = system.open(self._wanted, kind, run.call, run.finish)
        except MediaError:
            # What PortAudio knows of a device that was unplugged in between may be void.
            if waiting and not system.relisting:
                self._relist()
            raise
        try:
            self._opened(run.stream)
            run.began = run.called = self._clock()
            system.start(run.stream)
        except BaseException:
            system.close(run.stream)
            raise
        return run

    def _running(self, stream: OpenStream) -> None:
        if stream.device.id == self._wanted:
            self._wanted = stream.device.name  # numbers change when a device comes back
        if self.trouble is not None:
            log.info("the sound %s is there", self._kind)
        self.stream = stream
        self.state, self.trouble = "running", None
        self.opens += 1

    def _relist(self) -> None:
        if not self._relisted:
            self._relisted = True  # once for each absence: the other streams stop for it
            self._system.relist()

    async def _watch(self) -> None:
        """Return once the device is gone, or PortAudio has to start again."""
        run = self._run
        assert run is not None
        while not self._system.relisting:
            await self._pause(POLL_S)
            now = self._clock()
            fresh = now - run.began < _START_S
            if run.ended or now - run.called > (_START_SILENT_S if fresh else SILENT_S):
                self._wait(
                    f"The sound {self._kind} {self._wanted!r} is gone; plug it in or start it, and"
                    " it is used again."
                )
                return
            if not fresh:
                self._relisted, self._logged = False, None
            self._poll()

    async def _close(self) -> None:
        def work() -> None:  # after an opening that is still under way
            run, self._run = self._run, None
            if run is not None:
                self._system.close(run.stream)

        self.stream = None
        try:
            await asyncio.wait_for(self._worker.do(work), _CLOSE_S)
        except TimeoutError:
            log.warning("a sound device hangs while it is closed")
            self._leave_worker()

    def _wait(self, trouble: str) -> None:
        if trouble:
            self.trouble = trouble
        if self.trouble != self._logged:
            self._logged = self.trouble
            log.warning("%s", trouble)
        self.state = "waiting"

    def _leave_worker(self) -> None:
        self._worker.leave()
        self._worker = Worker(f"sound {self._kind}")
