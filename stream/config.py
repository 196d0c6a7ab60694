"""Settings: defaults < TOML file (``--config``) < environment (``LIPSTREAM_*``) < flags."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from engine.backends.choice import AUTO, parse_backend
from engine.bundle import STARTER
from engine.errors import ConfigError
from stream.setting_sources import (
    NUMBER,
    PATH,
    SWITCH,
    TEXT,
    TEXTS,
    WHOLE,
    from_environment,
    from_table,
    parse_file,
)

PREFIX = "LIPSTREAM_"
TABLES = ("relay",)
"""Parts of the file that hold the settings of one command."""

X264_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)

SYNC_MONITORS = ("off", "report", "act")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What an operator can set; every field is a key of the file and ``LIPSTREAM_<FIELD>``.

    Attributes:
        bundle_folder: the bundle to run; a relative path in a file counts from that file's folder.
        threads: processor threads of the networks, 1 to 64.
        backend: the run time of the generator: ``auto`` for the fastest, its name for its fastest
            number format, or both, like ``openvino-int8``.
        backends_off: names of run times that are never taken for it.
        badge: whether modified pictures carry the "AI lip-sync" badge.
        enhance_model: an ONNX file that enhances the painted mouths of ``dub``; a relative path in
            a file counts from that file's folder. None by default; live commands refuse it.
        enhance_strength: share of its change that is taken over, 0 (off) to 1.
        x264_crf: x264's constant rate factor (no unit): 0 is lossless, 51 the worst.
        x264_preset: x264's preset, from ``ultrafast`` to ``veryslow``.
        camera: a device, a film or a picture; the first camera where empty.
        target_audio: a device, a file or ``pcm://host:port``; none where empty.
        source_audio: the speaker's microphone, a device; none where empty.
        virtual_camera: a device; the first one where empty, none where ``off``.
        virtual_mic: the output device that other programs listen to; none where empty.
        width: of the virtual camera, in pixels, even.
        height: of the virtual camera, in pixels, even.
        fps: of the virtual camera, in pictures a second.
        delay_ms: added delay to begin with.
        own_voice: whether the speaker's own voice is heard; where it is not said, it is heard
            exactly if there is no target audio.
        page_port: of the control page, on this computer only; 0 takes any that is free.
        sync_monitor: whether a lip expert watches what leaves: ``off``; ``report``: it only says
            what it finds; ``act``: it also corrects a constant offset, and shows the real mouth
            while the painted one matches nothing.
        expert_folder: a bundle whose lip expert watches; where empty it is that of the bundle that
            runs, or of the starter if that one has none.
    """

    bundle_folder: Path = STARTER
    threads: int = 2
    backend: str = AUTO
    backends_off: tuple[str, ...] = ()
    badge: bool = True
    enhance_model: Path | None = None
    enhance_strength: float = 0.8
    x264_crf: int = 18
    x264_preset: str = "veryfast"
    camera: str = ""
    target_audio: str = ""
    source_audio: str = ""
    virtual_camera: str = ""
    virtual_mic: str = ""
    width: int = 1280
    height: int = 720
    fps: int = 30
    delay_ms: int = 400
    own_voice: bool | None = None
    page_port: int = 8765
    sync_monitor: str = "act"
    expert_folder: Path | None = None

    def __post_init__(self) -> None:
        within("threads", self.threads, 1, 64)
        parse_backend(self.backend, self.backends_off)
        within("enhance_strength", self.enhance_strength, 0, 1)
        within("x264_crf", self.x264_crf, 0, 51)
        within("width", self.width, 64, 3840)
        within("height", self.height, 64, 2160)
        within("fps", self.fps, 5, 60)
        within("delay_ms", self.delay_ms, 300, 1000)
        within("page_port", self.page_port, 0, 65535)
        one_of("sync_monitor", self.sync_monitor, SYNC_MONITORS)
        if self.width % 2 or self.height % 2:
            raise ConfigError(
                f"width and height must be even, as cameras have it, not {self.width} by"
                f" {self.height}."
            )
        one_of("x264_preset", self.x264_preset, X264_PRESETS)

    @classmethod
    def load(
        cls,
        file: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **flags: Any,
    ) -> Self:
        """The settings that hold.

        Args:
            file: a TOML file, if any.
            environment: where ``LIPSTREAM_*`` are looked up; the process's own by default.
            **flags: fields from the command line; None is a flag that was not given.

        Raises:
            ConfigError: the file can't be read, or a field is unknown or has an illegal value.
        """
        content = parse_file(file)
        flat = {name: value for name, value in content.items() if name not in TABLES}
        values = from_table(flat, file, READERS)
        values |= from_environment(
            os.environ if environment is None else environment, PREFIX, READERS
        )
        values |= {name: value for name, value in flags.items() if value is not None}
        return cls(**values)


def within(name: str, value: float, least: float, most: float) -> None:
    """See that a number is not too small or large.

    Raises:
        ConfigError: it is.
    """
    if not least <= value <= most:
        raise ConfigError(f"{name} must be {least} to {most}, not {value}.")


def one_of(name: str, value: str, options: Sequence[str]) -> None:
    """See that a word is one of those that are known.

    Raises:
        ConfigError: it is not.
    """
    if value not in options:
        raise ConfigError(f"{name} must be one of {', '.join(options)}, not {value!r}.")


READERS: Final = {
    "bundle_folder": PATH,
    "threads": WHOLE,
    "backend": TEXT,
    "backends_off": TEXTS,
    "badge": SWITCH,
    "enhance_model": PATH,
    "enhance_strength": NUMBER,
    "x264_crf": WHOLE,
    "x264_preset": TEXT,
    "camera": TEXT,
    "target_audio": TEXT,
    "source_audio": TEXT,
    "virtual_camera": TEXT,
    "virtual_mic": TEXT,
    "width": WHOLE,
    "height": WHOLE,
    "fps": WHOLE,
    "delay_ms": WHOLE,
    "own_voice": SWITCH,
    "page_port": WHOLE,
    "sync_monitor": TEXT,
    "expert_folder": PATH,
}
