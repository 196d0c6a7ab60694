"""The relay's log: one static message for each kind of event, and no names or addresses.

A record carries its facts as ``extra``; only fields with the names in ``FIELDS`` get through, and
of a text only a plain word. Arguments of a message are left out, as are the messages of errors:
their kind and the places they came through say enough. What libraries write is replaced whole.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, TextIO, get_args

LogFormat = Literal["text", "json"]
LOG_FORMATS: Final[tuple[LogFormat, ...]] = get_args(LogFormat)

FIELDS: Final = frozenset(
    {
        "action",
        "bytes",
        "count",
        "exit_code",
        "listeners",
        "memory_mb",
        "port",
        "reason",
        "restarts",
        "room_number",
        "rooms",
        "seconds",
        "sessions",
        "stage",
        "state",
        "status",
    }
)
"""Names of fields that a record may carry. ``room_number`` counts the rooms since the start."""

A_SECOND: Final = 10
"""Records of one place in the code that are written in a second; the rest is counted."""

_OURS: Final = ("engine", "stream", "run_stream")
_FOREIGN: Final = "a library reported something"
_WORD: Final = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,39}")
_ARGUMENT: Final = re.compile(r"%[-+ #0-9.]*[a-z]")
_FRAMES: Final = 8  # of a traceback
_WAITING: Final = 1000  # lines that stderr does not take
_LOOK_S: Final = 0.5
_END_S: Final = 1.0


def set_up_logs(
    form: LogFormat, *, process: str, stream: TextIO | None = None, level: int = logging.INFO
) -> logging.Handler:
    """Let this process log to stderr, and nothing else.

    Args:
        form: one JSON object a line, or the same for people.
        process: what the process is: ``front``, ``room``.
        stream: where the lines go; stderr where None.
        level: of our own records; libraries' are written from warnings on.

    Returns:
        The handler, to be closed where the process goes on after its log.
    """
    handler = LineHandler(stream or sys.stderr)
    handler.setFormatter(PlainFormatter(form, process))
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    return handler


class PlainFormatter(logging.Formatter):
    """Makes a line of a record; see the module.

    Args:
        form: of the line.
        process: its ``process``.
    """

    def __init__(self, form: LogFormat, process: str) -> None:
        super().__init__()
        self._form, self._process = form, process

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        facts = self._facts(record)
        if self._form == "json":
            return json.dumps(facts)
        head = f"{facts.pop('time')} {facts.pop('level')} {facts.pop('message')}"
        if "trace" in facts:
            facts["trace"] = " < ".join(facts["trace"])
        return head + "".join(f" {name}={value}" for name, value in facts.items())

    def _facts(self, record: logging.LogRecord) -> dict[str, Any]:
        ours = record.name.split(".", 1)[0] in _OURS and isinstance(record.msg, str)
        at = datetime.fromtimestamp(record.created, UTC)
        facts: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": _ARGUMENT.sub("…", record.msg) if ours else _FOREIGN,
            "process": self._process,
            "logger": record.name,
        }
        if not ours:
            facts["place"] = f"{Path(record.pathname).name}:{record.lineno}"
        for name in FIELDS & record.__dict__.keys():
            value = _plain(record.__dict__[name])
            if value is not None:
                facts[name] = value
        if suppressed := record.__dict__.get("suppressed"):
            facts["suppressed"] = suppressed
        if record.exc_info and record.exc_info[0] is not None:
            facts["error"] = record.exc_info[0].__name__
            facts["trace"] = _trace(record.exc_info[2])
        return facts


class RateLimit(logging.Filter):
    """Lets a place in the code write ``A_SECOND`` records a second.

    The next one that is let through carries how many were not, as ``suppressed``.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._places: dict[tuple[str, int], list[float]] = {}  # since, written, suppressed
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        now = self._clock()
        with self._lock:
            place = self._places.setdefault((record.pathname, record.lineno), [now, 0, 0])
            if now - place[0] >= 1.0:
                place[:2] = [now, 0]
            if place[1] >= A_SECOND:
                place[2] += 1
                return False
            place[1] += 1
            if place[2]:
                record.suppressed = int(place[2])
                place[2] = 0
            return True


class LineHandler(logging.Handler):
    """Writes lines in a thread of its own: a stderr that nobody reads must not hold up the loop.

    Lines beyond a thousand that wait are dropped, and counted in the next line.

    Args:
        stream: where they go.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str] = queue.Queue(_WAITING)
        self._dropped = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; returns at once."""
        if self._dropped:
            record.suppressed = getattr(record, "suppressed", 0) + self._dropped
        try:
            self._lines.put_nowait(self.format(record) + "\n")
            self._dropped = 0
        except queue.Full:
            self._dropped += 1
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait a moment until all lines are written."""
        deadline = time.monotonic() + _END_S
        with self._lines.all_tasks_done:
            while self._lines.unfinished_tasks and time.monotonic() < deadline:
                self._lines.all_tasks_done.wait(deadline - time.monotonic())

    def close(self) -> None:
        """Write what waits, and end."""
        self.flush()
        self._ended.set()
        self._thread.join(_LOOK_S + _END_S)
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: the standard one prints the record's arguments."""

    def _write(self) -> None:
        while not self._ended.is_set():
            try:
                line = self._lines.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            with suppress(OSError, ValueError):  # stderr is closed
                self._stream.write(line)
                self._stream.flush()
            self._lines.task_done()


def _plain(value: object) -> object:
    if isinstance(value, bool | int | float):
        return value if math.isfinite(value) else None
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    return None


def _trace(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-_FRAMES:]
    return [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames)
    ]


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _log.critical("the process failed", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(hook: threading.ExceptHookArgs) -> None:
    if hook.exc_value is not None and not issubclass(hook.exc_type, SystemExit):
        _log.error("a thread failed", exc_info=(hook.exc_type, hook.exc_value, hook.exc_traceback))


_log: Final = logging.getLogger(__name__)
