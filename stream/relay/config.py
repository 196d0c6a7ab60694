"""The relay's settings: defaults < TOML file (``[relay]``) < ``LIPSTREAM_RELAY_*`` < flags."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from engine.backends.choice import AUTO, parse_backend
from engine.bundle import STARTER
from engine.errors import ConfigError
from stream.config import PREFIX, READERS, SYNC_MONITORS, TABLES, one_of, within
from stream.relay.logs import LOG_FORMATS, LogFormat
from stream.relay.names import FLOOR, is_room, is_speaker, language_tag
from stream.setting_sources import (
    NUMBER,
    PATH,
    SECRET,
    SWITCH,
    TEXT,
    TEXTS,
    WHOLE,
    Reader,
    from_environment,
    from_table,
    parse_file,
)

TABLE: Final = "relay"
LEAST_SECRET: Final = 32
"""Bytes of a secret."""

ANY: Final = "*"

_SHARED: Final = (  # with all commands
    "bundle_folder",
    "threads",
    "backend",
    "backends_off",
    "badge",
    "delay_ms",
    "sync_monitor",
    "expert_folder",
)
_SCHEMES: Final = ("pcm", "ws", "wss")
_MOST_SECRET: Final = 4096  # bytes of a file with a secret
_TRANSLATOR: Final = re.compile(
    r"(?P<room>[^/=]+)/(?P<speaker>[^/=]+)/(?P<language>[^/=]+)=(?P<url>.+)"
)
_HOW: Final = 'python -c "import secrets; print(secrets.token_urlsafe(48))"'


@dataclasses.dataclass(frozen=True, slots=True)
class Translator:
    """A process that speaks a language.

    Attributes:
        room: a name, or ``*`` for any.
        speaker: a name, or ``*`` for any.
        language: its tag.
        url: ``ws://`` or ``wss://`` to be dialled, ``pcm://host:port`` to be listened at.
    """

    room: str
    speaker: str
    language: str
    url: str

    def fits(self, room: str, speaker: str) -> bool:
        """Whether it translates this speaker."""
        return self.room in (ANY, room) and self.speaker in (ANY, speaker)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ROOM/SPEAKER/LANG=URL``.

        Raises:
            ConfigError: it is none.
        """
        found = _TRANSLATOR.fullmatch(text)
        if found is None:
            raise ConfigError(f"{text!r} is no translator; write ROOM/SPEAKER/LANG=URL.")
        language = language_tag(found["language"])
        if not (is_room(found["room"]) or found["room"] == ANY):
            raise ConfigError(f"No room can have the name {found['room']!r}; * is for any.")
        if not (is_speaker(found["speaker"]) or found["speaker"] == ANY):
            raise ConfigError(
                f"No speaker can have the name {found['speaker']!r}; * is for any."
                + (" A process translates one speaker." if found["speaker"] == FLOOR else "")
            )
        if language is None:
            raise ConfigError(f"{found['language']!r} is no language; write a tag such as de.")
        try:
            url = urlsplit(found["url"])
            complete = bool(url.hostname) and (url.scheme != "pcm" or url.port is not None)
        except ValueError:
            complete = False
        if not complete or url.scheme not in _SCHEMES:
            raise ConfigError(
                f"The translator for {language} needs an address like ws://host:port/path,"
                " wss://host/path or pcm://host:port."
            )
        if url.scheme == "pcm" and ANY in (found["room"], found["speaker"]):
            raise ConfigError(
                "One pcm:// address serves one speaker; name the room and the speaker instead"
                f" of {ANY}."
            )
        return cls(found["room"], found["speaker"], language, found["url"])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RelaySettings:
    """What an operator can set of the relay; every field is a key of the file's ``[relay]``.

    Attributes:
        bundle_folder: the bundle to run.
        threads: processor threads of the generator.
        backend: the generator's run time: ``auto``, a name, or one with a number format.
        backends_off: names of run times that are never taken for it.
        badge: whether modified pictures carry the "AI lip-sync" badge.
        delay_ms: added delay of a lip-synced picture to begin with.
        sync_monitor: whether a lip expert watches each language: ``off``, ``report`` or ``act``.
        expert_folder: a bundle whose lip expert watches.
        host: the name or address to listen at.
        port: TCP, for HTTP; 0 takes any that is free.
        secret: signs the tokens; at least 32 bytes. Without it everything is open to everybody,
            which is only possible on this computer.
        secret_file: a file that holds it instead.
        tls_cert: the certificate with its chain, PEM; HTTP without TLS where None.
        tls_key: its key, PEM; in the certificate's file where None.
        stun: a STUN server for clients, ``stun:host:port``; none where empty.
        turn_urls: TURN servers for clients, ``turn:host:port?transport=udp``.
        turn_secret: shared with the TURN servers.
        turn_secret_file: a file that holds it instead.
        allow_loopback_candidates: whether clients may be on this computer; where it is not said,
            exactly if the relay listens there.
        trust_proxy: whether all requests come through a proxy of one's own.
        allowed_origins: sites whose pages may use a relay without a secret.
        most_rooms: at once.
        most_listeners_per_room: at once; publishers count too.
        most_lines: languages whose target audio sounds at once, in all rooms.
        drain_s: how long sessions go on after SIGTERM or Ctrl-C, in seconds.
        room_memory_mb: memory that a room's process may have for itself, in 10^6 bytes.
        translators: ``ROOM/SPEAKER/LANG=URL``; ``*`` stands for any room or speaker.
        log_format: ``text`` or ``json``; where it is empty, text exactly on a terminal.
    """

    bundle_folder: Path = STARTER
    threads: int = 2
    backend: str = AUTO
    backends_off: tuple[str, ...] = ()
    badge: bool = True
    delay_ms: int = 400
    sync_monitor: str = "report"  # many people and voices that an expert may not know
    expert_folder: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    secret: str = dataclasses.field(default="", repr=False)
    secret_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    stun: str = ""
    turn_urls: tuple[str, ...] = ()
    turn_secret: str = dataclasses.field(default="", repr=False)
    turn_secret_file: Path | None = None
    allow_loopback_candidates: bool | None = None
    trust_proxy: bool = False
    allowed_origins: tuple[str, ...] = ()
    most_rooms: int = 4
    most_listeners_per_room: int = 50
    most_lines: int = 16
    drain_s: float = 30.0
    room_memory_mb: int = 1500
    translators: tuple[str, ...] = ()
    log_format: str = ""

    def __post_init__(self) -> None:
        within("port", self.port, 0, 65535)
        within("most_rooms", self.most_rooms, 1, 64)
        within("most_listeners_per_room", self.most_listeners_per_room, 1, 1000)
        within("most_lines", self.most_lines, 1, 256)
        within("drain_s", self.drain_s, 0, 3600)
        within("room_memory_mb", self.room_memory_mb, 300, 64_000)
        within("delay_ms", self.delay_ms, 300, 1000)
        within("threads", self.threads, 1, 64)
        parse_backend(self.backend, self.backends_off)
        one_of("sync_monitor", self.sync_monitor, SYNC_MONITORS)
        if self.log_format not in ("", *LOG_FORMATS):
            raise ConfigError(f"log_format must be text or json, not {self.log_format!r}.")
        if self.tls_key is not None and self.tls_cert is None:
            raise ConfigError("A TLS key needs its certificate; set tls_cert too.")
        self.parsed_translators()

    @classmethod
    def load(
        cls,
        file: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **flags: Any,
    ) -> Self:
        """The settings that hold; secrets are read from their files.

        What the file's table and ``LIPSTREAM_RELAY_*`` do not say of the bundle, the threads, the
        run time, the badge and the delay is as for all commands.

        Args:
            file: a TOML file, if any.
            environment: where variables are looked up; the process's own by default.
            **flags: fields from the command line; None is a flag that was not given.

        Raises:
            ConfigError: a file can't be read, or a field is unknown or has an illegal value.
        """
        environment = os.environ if environment is None else environment
        content = parse_file(file)
        table = content.get(TABLE, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{TABLE} in {file} must be a table, as [{TABLE}] begins it.")
        flat = {name: value for name, value in content.items() if name not in TABLES}
        values = _shared(from_table(flat, file, READERS))
        for later in (
            from_table(table, file, RELAY_READERS),
            from_environment(environment, PREFIX, _shared(READERS)),
            from_environment(environment, f"{PREFIX}{TABLE.upper()}_", RELAY_READERS),
            {name: value for name, value in flags.items() if value is not None},
        ):
            values = _without_other_secrets(values, later) | later
        for name in ("secret", "turn_secret"):
            path = values.get(f"{name}_file")
            if path is not None:
                if values.get(name):
                    raise ConfigError(f"Set either {name} or {name}_file, not both.")
                values[name] = _read_secret(path)
        return cls(**values)

    def check_access(self) -> None:
        """See that a relay with these settings may listen where it is to.

        Raises:
            ConfigError: other computers can reach it, and there is no secret that is long enough.
        """
        if self.secret and len(self.secret.encode()) < LEAST_SECRET:
            raise ConfigError(
                f"The secret is too short: it needs at least {LEAST_SECRET} bytes, such as"
                f" {_HOW} prints."
            )
        if not self.secret and not self.is_local:
            raise ConfigError(
                "A relay that other computers can reach needs a secret: put what"
                f" {_HOW} prints into a file and name it with --secret-file, or leave --host at"
                " 127.0.0.1 and --trust-proxy out."
            )

    @property
    def is_local(self) -> bool:
        """Whether only this computer can reach the relay."""
        return is_loopback(self.host) and not self.trust_proxy

    @property
    def loopback_candidates(self) -> bool:
        """Whether clients may be on this computer."""
        if self.allow_loopback_candidates is not None:
            return self.allow_loopback_candidates
        return is_loopback(self.host)

    @property
    def ice_urls(self) -> tuple[str, ...]:
        """STUN and TURN servers."""
        return (*((self.stun,) if self.stun else ()), *self.turn_urls)

    def chosen_log_format(self) -> LogFormat:
        """The log's format."""
        if self.log_format:
            return "json" if self.log_format == "json" else "text"
        return "text" if sys.stderr.isatty() else "json"

    def parsed_translators(self) -> list[Translator]:
        """The translators.

        Raises:
            ConfigError: one is malformed.
        """
        return [Translator.parse(text) for text in self.translators]

    def warnings(self) -> list[str]:
        """Sentences on what works, but should not be so."""
        found = [
            f"Other users of this computer can read {path}; take that from them: chmod 600 {path}"
            for path in (self.secret_file, self.turn_secret_file, self.tls_key)
            if path is not None and _others_read(path)
        ]
        if not self.is_local and self.tls_cert is None and not self.trust_proxy:
            found.append(
                "Without TLS browsers give pages of other computers no camera, and tokens can be"
                " read on the way; set --tls-cert, or put a proxy with TLS in front."
            )
        return found


def _shared(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in _SHARED}


def _without_other_secrets(before: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """What was set before, but for a secret that is set in another way later."""
    now_set = {name.removesuffix("_file") for name in later}
    return {
        name: value
        for name, value in before.items()
        if "secret" not in name or name.removesuffix("_file") not in now_set
    }


def _read_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            secret = file.read(_MOST_SECRET + 1).decode().strip()
    except OSError as error:
        raise ConfigError(
            f"The secret in {path} can't be read ({error.strerror}); check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text; put the secret there as one line.") from error
    if not secret or len(secret) > _MOST_SECRET or "\n" in secret:
        raise ConfigError(f"{path} must hold the secret as one line, and nothing else.")
    return secret


def _others_read(path: Path) -> bool:
    if sys.platform == "win32":
        return False  # its permissions are no bits
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a server that is bound to this name or address is for this computer alone."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


RELAY_READERS: Final[dict[str, Reader]] = {
    **_shared(READERS),
    "host": TEXT,
    "port": WHOLE,
    "secret": SECRET,
    "secret_file": PATH,
    "tls_cert": PATH,
    "tls_key": PATH,
    "stun": TEXT,
    "turn_urls": TEXTS,
    "turn_secret": SECRET,
    "turn_secret_file": PATH,
    "allow_loopback_candidates": SWITCH,
    "trust_proxy": SWITCH,
    "allowed_origins": TEXTS,
    "most_rooms": WHOLE,
    "most_listeners_per_room": WHOLE,
    "most_lines": WHOLE,
    "drain_s": NUMBER,
    "room_memory_mb": WHOLE,
    "translators": TEXTS,
    "log_format": TEXT,
}
