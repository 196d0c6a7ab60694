"""Settings: defaults < TOML file (``--config``) < environment (``LIPSTREAM_*``) < flags."""

import dataclasses
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from engine.bundle import STARTER
from engine.errors import ConfigError

PREFIX = "LIPSTREAM_"
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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What an operator can set; every field is a key of the file and ``LIPSTREAM_<FIELD>``.

    Attributes:
        bundle_folder: the bundle to run; a relative path in a file counts from that file's folder.
        threads: processor threads of the networks, 1 to 64.
        badge: whether modified pictures carry the "AI lip-sync" badge.
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
    """

    bundle_folder: Path = STARTER
    threads: int = 2
    badge: bool = True
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

    def __post_init__(self) -> None:
        _within("threads", self.threads, 1, 64)
        _within("x264_crf", self.x264_crf, 0, 51)
        _within("width", self.width, 64, 3840)
        _within("height", self.height, 64, 2160)
        _within("fps", self.fps, 5, 60)
        _within("delay_ms", self.delay_ms, 300, 1000)
        _within("page_port", self.page_port, 0, 65535)
        if self.width % 2 or self.height % 2:
            raise ConfigError(
                f"width and height must be even, as cameras have it, not {self.width} by"
                f" {self.height}."
            )
        if self.x264_preset not in X264_PRESETS:
            raise ConfigError(
                f"x264_preset must be one of {', '.join(X264_PRESETS)}, not {self.x264_preset!r}."
            )

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
        values = {} if file is None else _from_file(file)
        values |= _from_environment(os.environ if environment is None else environment)
        values |= {name: value for name, value in flags.items() if value is not None}
        return cls(**values)


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{name} must be {least} to {most}, not {value}.")


def _from_file(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The settings {file} can't be read ({error.strerror}); check the path."
        ) from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise ConfigError(f"The settings {file} are not valid TOML ({error}).") from error
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in _READERS:
            raise ConfigError(
                f"{file} sets {name!r}, which is no setting; there are: {', '.join(_READERS)}."
            )
        kind = _READERS[name].kind
        if type(value) is not kind:
            raise ConfigError(f"{name} in {file} must be {_KINDS[kind]}, not {value!r}.")
        values[name] = file.parent / str(value) if name == "bundle_folder" else value
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for name, reader in _READERS.items():
        variable = PREFIX + name.upper()
        text = environment.get(variable, "").strip()
        if not text:
            continue
        try:
            values[name] = reader.from_text(text)
        except ValueError as error:
            raise ConfigError(f"{variable} must be {_KINDS[reader.kind]}, not {text!r}.") from error
    return values


def _switch(text: str) -> bool:
    try:
        return _SWITCHES[text.lower()]
    except KeyError as error:
        raise ValueError(text) from error


@dataclasses.dataclass(frozen=True, slots=True)
class _Reader:
    kind: type  # in a TOML file
    from_text: Callable[[str], Any]  # from an environment variable


_KINDS = {str: "a text", int: "a whole number", bool: "true or false"}
_SWITCHES = {"1": True, "true": True, "yes": True, "on": True}
_SWITCHES |= {"0": False, "false": False, "no": False, "off": False}
_READERS = {
    "bundle_folder": _Reader(str, Path),
    "threads": _Reader(int, int),
    "badge": _Reader(bool, _switch),
    "x264_crf": _Reader(int, int),
    "x264_preset": _Reader(str, str),
    "camera": _Reader(str, str),
    "target_audio": _Reader(str, str),
    "source_audio": _Reader(str, str),
    "virtual_camera": _Reader(str, str),
    "virtual_mic": _Reader(str, str),
    "width": _Reader(int, int),
    "height": _Reader(int, int),
    "fps": _Reader(int, int),
    "delay_ms": _Reader(int, int),
    "own_voice": _Reader(bool, _switch),
    "page_port": _Reader(int, int),
}
