"""The words of ``relay`` and ``relay token``."""

import argparse
from datetime import timedelta
from pathlib import Path
from typing import Any

from stream.cli_live import add_backend, add_sync_monitor
from stream.relay.config import RelaySettings

ACTS = ("publish-speaker", "publish-language", "listen", "admin")
MOST_HOURS = 720.0


def add_relay_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the command."""
    relay = commands.add_parser(
        "relay",
        allow_abbrev=False,  # --secret is no way to write --secret-file
        help="host translated meetings: WebRTC rooms with one lip-synced picture per language",
        description="Host meetings: speakers and interpreters publish, and listeners of a language"
        " see the speaker with lips that match what they hear. Secrets come from a file or the"
        " environment; docs/relay.md explains all of it.",
    )
    default = RelaySettings()
    for flag, word, text in (
        ("--host", "ADDR", f"where to listen (default: {default.host}, this computer only)"),
        ("--secret-file", "FILE", "holds the secret that signs tokens, 32 bytes or more"),
        ("--tls-cert", "FILE", "certificate and chain, PEM"),
        ("--tls-key", "FILE", "its key, PEM"),
        ("--stun", "URL", "a STUN server for clients, stun:host:port"),
        ("--turn-secret-file", "FILE", "holds the secret that the TURN servers share"),
    ):
        kind: Any = Path if word == "FILE" else str
        relay.add_argument(flag, metavar=word, type=kind, help=text)
    for flag, name, text in (
        ("--port", "PORT", f"where to listen (default: {default.port}; 0: any)"),
        ("--most-rooms", "N", f"rooms at once (default: {default.most_rooms})"),
        (
            "--most-listeners-per-room",
            "N",
            f"connections of a room (default: {default.most_listeners_per_room})",
        ),
        (
            "--most-lines",
            "N",
            f"languages that are lip-synced at once (default: {default.most_lines})",
        ),
        (
            "--room-memory-mb",
            "MB",
            f"memory of a room's process (default: {default.room_memory_mb})",
        ),
        ("--delay-ms", "MS", f"added delay to begin with (default: {default.delay_ms})"),
        ("--threads", "N", f"processor threads of the generator (default: {default.threads})"),
    ):
        relay.add_argument(flag, metavar=name, type=int, help=text)
    relay.add_argument(
        "--drain-s",
        metavar="S",
        type=float,
        help=f"how long sessions go on after Ctrl-C or SIGTERM (default: {default.drain_s:.0f})",
    )
    add_backend(relay)
    add_sync_monitor(relay, default.sync_monitor)
    relay.add_argument(
        "--turn-url",
        metavar="URL",
        dest="turn_urls",
        action="append",
        help="a TURN server for clients, turn:host:port?transport=udp; may be given again",
    )
    relay.add_argument(
        "--translator",
        metavar="ROOM/SPEAKER/LANG=URL",
        dest="translators",
        action="append",
        help="a process that speaks a language, at ws://, wss:// or pcm://; * is any room or"
        " speaker; may be given again",
    )
    relay.add_argument(
        "--allow-origin",
        metavar="URL",
        dest="allowed_origins",
        action="append",
        help="a site whose pages may use a relay without a secret; may be given again",
    )
    relay.add_argument(
        "--trust-proxy",
        action="store_const",
        const=True,
        help="all requests come through a proxy of yours, which names the clients",
    )
    relay.add_argument(
        "--allow-loopback-candidates",
        action=argparse.BooleanOptionalAction,
        help="whether clients may be on this computer (default: as --host is)",
    )
    relay.add_argument(
        "--no-badge",
        dest="badge",
        action="store_const",
        const=False,
        help='leave the "AI lip-sync" badge off the modified pictures',
    )
    relay.add_argument(
        "--bundle",
        metavar="DIR",
        dest="bundle_folder",
        type=Path,
        help="the model to run (default: the starter that comes with the program)",
    )
    relay.add_argument(
        "--log-format",
        choices=("text", "json"),
        help="of the log on stderr (default: text on a terminal, else json)",
    )
    relay.add_argument("--config", metavar="FILE", type=Path, help="a TOML file of settings")
    relay.set_defaults(report=None, out=None, word=None)
    _add_token(relay)


def _add_token(relay: argparse.ArgumentParser) -> None:
    words = relay.add_subparsers(dest="word", metavar="token")
    token = words.add_parser(
        "token",
        allow_abbrev=False,
        help="print a token for a room, and end",
        description="Print a token, made with the relay's secret. Whoever has it may do what it"
        " allows.",
    )
    token.add_argument("--room", metavar="ROOM", required=True, help="the only room it is for")
    token.add_argument(
        "--act",
        dest="acts",
        action="append",
        choices=ACTS,
        required=True,
        help="what it allows; may be given again",
    )
    token.add_argument("--speaker", metavar="NAME", help="the only speaker it is for")
    token.add_argument("--language", metavar="LANG", help="the only language it is for")
    token.add_argument(
        "--hours",
        metavar="N",
        type=_lifetime,
        dest="lifetime",
        default=timedelta(hours=12),
        help=f"how long it is valid, up to {MOST_HOURS:.0f} (default: 12)",
    )
    # Given before or after the word; a default here would undo what was given before it.
    for flag, text in (
        ("--secret-file", "holds the relay's secret"),
        ("--config", "a TOML file of settings"),
    ):
        token.add_argument(flag, metavar="FILE", type=Path, default=argparse.SUPPRESS, help=text)


def _lifetime(text: str) -> timedelta:
    try:
        hours = float(text)
    except ValueError:
        hours = float("nan")
    if not 0.0 < hours <= MOST_HOURS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of hours up to {MOST_HOURS:.0f}"
        )
    return timedelta(hours=hours)
