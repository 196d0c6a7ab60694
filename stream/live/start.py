"""From settings to a running session: opens the ends, loads the networks, and reports."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2

from engine.backends.choice import candidates
from engine.bundle import Bundle, load_bundle
from engine.errors import MediaError
from engine.face_models import FaceModels
from engine.tracker import FaceTracker
from stream.config import Settings
from stream.core.delay import Delay
from stream.core.meters import Meters
from stream.core.session import Event
from stream.lip_experts import expert_bundle
from stream.live.clock import SessionClock
from stream.live.control import SessionControl
from stream.live.ends import Controls
from stream.live.generator_loader import GeneratorLoader
from stream.live.memory import keep_flat
from stream.live.painter import Painter
from stream.live.session import LiveSession
from stream.live.sync_watch import watch_with
from stream.live.wiring import Wiring, demo_wiring
from stream.report import Report, resident_mb
from stream.report_plot import check_plot, plot
from stream.web.broadcast import Broadcast

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a live command was asked for beside the settings.

    Attributes:
        demo: the built-in speaker and speech instead of devices.
        seconds: how long; without end by default.
        record: a video to write.
        page: whether to open the control page.
        trace: a file for every decision.
        plot: a picture of the session over time.
    """

    demo: bool
    seconds: float | None = None
    record: Path | None = None
    page: bool = True
    trace: Path | None = None
    plot: Path | None = None


async def hold(order: Order, settings: Settings, say: Callable[[str], None]) -> Report:
    """Hold a live session until it is over or the task is cancelled.

    Args:
        order: what was asked for.
        settings: everything else.
        say: takes a line for the user.

    Returns:
        What it came to.

    Raises:
        LipstreamError: something is missing or wrong that the session can't begin without.
    """
    keep_flat()
    cv2.setNumThreads(1)  # each step is short and has a thread of its own; a pool only waits
    if order.plot is not None:
        check_plot(order.plot)
    meters = Meters(resident_mb)
    bundle = load_bundle(settings.bundle_folder)
    candidates(bundle, settings.backend, settings.backends_off)  # said before a device is opened
    loader = GeneratorLoader(bundle, settings)
    clock = SessionClock()
    if order.demo:
        wiring = demo_wiring(clock)
    else:
        from stream.live.device_wiring import camera_wiring  # loads the sound system

        wiring = camera_wiring(settings, clock, meters.skew)
    try:
        with _trace(order.trace) as trace:
            await _hold(order, settings, wiring, meters, bundle, loader, clock, trace, say)
    finally:
        wiring.close()
    if order.plot is not None:
        plot(meters.series(), order.plot)
    return meters.report(clock(), backend=loader.backend(), bundle=bundle.folder.name)


async def _hold(
    order: Order,
    settings: Settings,
    wiring: Wiring,
    meters: Meters,
    bundle: Bundle,
    loader: GeneratorLoader,
    clock: SessionClock,
    trace: Callable[[Event], None] | None,
    say: Callable[[str], None],
) -> None:
    if order.record is not None:
        wiring.record(order.record, Fraction(wiring.fps), settings, clock, meters)
    broadcast = Broadcast()
    if order.page:
        wiring.pictures.append(broadcast)
        wiring.sounds.append(broadcast)
        wiring.runners.append(broadcast)
    wiring.measure(clock, meters)
    models = FaceModels(threads=1)
    expert = expert_bundle(bundle, settings.sync_monitor, settings.expert_folder)
    painter = Painter(bundle, loader.load)
    own_voice = settings.own_voice
    controls = Controls(own_voice=wiring.target is None if own_voice is None else own_voice)
    session = LiveSession(
        wiring.ends(),
        bundle=bundle,
        painter=painter,
        make_tracker=lambda: FaceTracker(
            models, geometry=bundle.crop, resolution=bundle.resolution, live=True
        ),
        clock=clock,
        meters=meters,
        controls=controls,
        delay=Delay(settings.delay_ms / 1000),
        badge=settings.badge,
        watch=watch_with(expert, settings.sync_monitor),
        trace=trace,
    )
    if order.page:
        from stream.web.server import PageServer  # loads the WebRTC library

        control = SessionControl(
            session, wiring.troubles, backend=loader.backend, bundle=bundle.folder.name
        )
        page = PageServer(control, broadcast, port=settings.page_port)
        url = await page.start()
        session.add(page)
        say(f"The control page: {url}")
        if _has_screen():
            await asyncio.to_thread(webbrowser.open, url)
    for start in wiring.starting:
        await start()
    if session.line.watch is not None:
        session.line.watch.start()  # its networks load meanwhile
    try:
        await painter.start()
        clock.restart()
        await session.run(order.seconds)
    except asyncio.CancelledError:
        # Ctrl-C ends a session as it should end; nothing is lost by it.
        log.info("the session was ended")
    finally:
        await painter.close()
        if session.line.watch is not None:
            await asyncio.to_thread(session.line.watch.end)


def _has_screen() -> bool:
    """Whether a browser can open a window; one for terminals would take this program's."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def _trace(path: Path | None) -> Iterator[Callable[[Event], None] | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise MediaError(
            f"The trace {path} can't be written ({error.strerror}); choose another place."
        ) from error
    with file:

        def write(event: Event) -> None:
            file.write(json.dumps(event) + "\n")

        yield write
