"""The ends of a session that the settings name: devices, files, sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.errors import ConfigError
from stream.config import Settings
from stream.core.file_intake import FileIntake
from stream.core.intake import PushedIntake
from stream.core.skew import SkewMeter
from stream.live.cameras import Camera, open_camera
from stream.live.clock import SessionClock
from stream.live.microphone import Microphone
from stream.live.pcm import PcmServer, parse_pcm_url
from stream.live.sound_devices import find
from stream.live.speaker import Speaker
from stream.live.virtual_camera import VirtualCamera
from stream.live.wiring import CAPTURE_FPS, Wiring

OFF: Final = "off"


def camera_wiring(settings: Settings, clock: SessionClock, skew: SkewMeter) -> Wiring:
    """The ends that the settings name.

    Raises:
        ConfigError: a package or a system library is missing, or a name makes no sense.
        MediaError: a device or file that is named is not there or in use.
    """

    def camera() -> Camera:
        return open_camera(
            settings.camera,
            clock,
            width=settings.width,
            height=settings.height,
            fps=CAPTURE_FPS,
        )

    first = camera()  # what is missing at the start is said at once; later it is waited for
    first.close()
    wiring = Wiring(camera=camera, fps=first.fps)
    _add_target(wiring, settings.target_audio, clock)
    if settings.source_audio:
        find(settings.source_audio, "input")
        microphone = Microphone(settings.source_audio, clock)
        wiring.source = microphone.intake
        wiring.runners.append(microphone)
        wiring.troubles["microphone"] = lambda: microphone.trouble
    # The skew is measured at the devices where both are there.
    measured = settings.virtual_camera != OFF and bool(settings.virtual_mic)
    if settings.virtual_camera != OFF:
        virtual = VirtualCamera(
            settings.width,
            settings.height,
            settings.fps,
            device=settings.virtual_camera or None,
            clock=clock,
            on_left=skew.picture_left if measured else _ignore,
        )
        wiring.pictures.append(virtual)
        wiring.runners.append(virtual)
        wiring.troubles["virtual camera"] = lambda: virtual.trouble
    if settings.virtual_mic:
        find(settings.virtual_mic, "output")
        speaker = Speaker(
            settings.virtual_mic, clock, on_left=skew.sound_left if measured else _ignore
        )
        wiring.sounds.append(speaker)
        wiring.runners.append(speaker)
        wiring.troubles["virtual microphone"] = lambda: speaker.trouble
    if measured:
        wiring.measured = True
        wiring.picture_wait_s = 0.5 / settings.fps  # half of the device's period
        wiring.skew_source = "the virtual camera and the virtual microphone"
    return wiring


def _add_target(wiring: Wiring, name: str, clock: SessionClock) -> None:
    if not name:
        return
    if name.startswith("pcm://"):
        host, port = parse_pcm_url(name)
        pushed = PushedIntake()
        server = PcmServer(host, port, pushed)
        wiring.target = pushed
        wiring.starting.append(server.start)
        wiring.runners.append(server)
        wiring.troubles["target audio"] = lambda: (
            None if server.state == "connected" else "Nobody is connected yet."
        )
    elif "://" in name:
        raise ConfigError(
            f"{name} can't be target audio: name a device, a file or pcm://host:port."
        )
    elif Path(name).exists():
        speech = FileIntake(Path(name))
        wiring.target = speech
        wiring.closing.append(speech.close)
    else:
        find(name, "input")
        device = Microphone(name, clock)
        wiring.target = device.intake
        wiring.runners.append(device)
        wiring.troubles["target audio"] = lambda: device.trouble
        wiring.target_latency_s = lambda: device.latency_s


def _ignore(content_s: float, at: float) -> None:
    """Nothing is measured here."""
