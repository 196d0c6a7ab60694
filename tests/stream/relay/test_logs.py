"""The relay's log: JSON lines, whitelisted fields, no identities."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stream.relay.logs import (
    A_SECOND,
    LineHandler,
    LogFormat,
    PlainFormatter,
    RateLimit,
    set_up_logs,
)

pytestmark = pytest.mark.unit

NAME = "Aardvark"


class Log:
    """A logger of its own, and the lines that it writes."""

    def __init__(self, form: LogFormat = "json", name: str = "stream.relay.example") -> None:
        self._stream = io.StringIO()
        self.handler = LineHandler(self._stream)
        self.handler.setFormatter(PlainFormatter(form, "front"))
        self.logger = logging.getLogger(name)
        self.logger.addHandler(self.handler)
        self.logger.propagate = False
        self.logger.setLevel(logging.DEBUG)

    @property
    def text(self) -> str:
        self.handler.flush()
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def close(self) -> None:
        self.logger.removeHandler(self.handler)
        self.logger.propagate = True
        self.handler.close()


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    yield made
    made.close()


@pytest.fixture
def library() -> Iterator[Log]:
    made = Log(name="aioice.ice")
    yield made
    made.close()


def test_a_line_is_one_json_object_with_the_fields_that_are_known(log: Log) -> None:
    log.logger.info("a room began", extra={"rooms": 2, "room_number": 7, "reason": "idle"})
    [line] = log.lines
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "message": "a room began",
        "process": "front",
        "logger": "stream.relay.example",
        "rooms": 2,
        "room_number": 7,
        "reason": "idle",
    }


def test_other_fields_and_long_values_do_not_get_through(log: Log) -> None:
    extra = {"room": NAME, "speaker": NAME, "address": "192.0.2.7", "rooms": [NAME]}
    log.logger.info("x", extra=extra | {"reason": f"said by {NAME}", "seconds": float("nan")})
    [line] = log.lines
    assert line.keys() == {"time", "level", "message", "process", "logger"}


def test_arguments_of_messages_are_left_out(log: Log) -> None:
    log.logger.warning("room %s failed after %.1f s", NAME, 2.0)
    assert log.lines[0]["message"] == "room … failed after … s"
    assert NAME not in log.text


def test_errors_say_their_kind_and_way_but_not_their_message(log: Log) -> None:
    def fail() -> None:
        raise ValueError(f"{NAME} at 192.0.2.7")

    try:
        fail()
    except ValueError:
        log.logger.exception("a request failed")
    [line] = log.lines
    assert line["error"] == "ValueError"
    assert line["trace"][0].startswith("test_logs.py:")
    assert line["trace"][0].endswith(" fail")
    assert NAME not in log.text
    assert "192.0.2.7" not in log.text


def test_what_libraries_write_is_replaced(library: Log) -> None:
    text = f"Connection to {NAME} 192.0.2.7 failed"
    library.logger.warning(text)
    [line] = library.lines
    assert line["message"] == "a library reported something"
    assert line["logger"] == "aioice.ice"
    assert line["place"].startswith("test_logs.py:")
    assert NAME not in library.text


def test_an_object_as_message_is_not_trusted(log: Log) -> None:
    log.logger.error(ValueError(NAME))
    assert NAME not in log.text


def test_people_get_the_same_in_one_line() -> None:
    log = Log("text")
    try:
        log.logger.warning("a room was lost", extra={"reason": "died", "exit_code": -9})
        assert " warning a room was lost process=front" in log.text
        assert log.text.endswith(" exit_code=-9 reason=died\n") or log.text.endswith(
            " reason=died exit_code=-9\n"
        )
    finally:
        log.close()


def test_a_line_break_can_not_forge_a_line(log: Log) -> None:
    log.logger.info("x", extra={"reason": 'a\n{"level": "critical"}'})
    log.logger.info("a\nb")
    assert len(log.lines) == 2


def record(line: int = 1, path: str = "a.py") -> logging.LogRecord:
    return logging.LogRecord("stream.a", logging.INFO, path, line, "x", (), None)


def test_a_place_writes_ten_lines_a_second_and_then_says_how_many_it_kept_back() -> None:
    now = 0.0
    limit = RateLimit(lambda: now)
    assert sum(bool(limit.filter(record())) for _ in range(100)) == A_SECOND
    assert limit.filter(record(line=2))
    now = 0.9
    assert not limit.filter(record())
    now = 1.0
    first, second = record(), record()
    assert limit.filter(first)
    assert limit.filter(second)
    assert first.__dict__["suppressed"] == 91
    assert "suppressed" not in second.__dict__


def test_a_reader_that_stands_still_holds_up_nobody() -> None:
    reading, writing = os.pipe()
    lines: list[str] = []

    def read() -> None:
        with os.fdopen(reading) as file:
            lines.extend(file)

    with os.fdopen(writing, "w") as stream:
        handler = LineHandler(stream)
        handler.setFormatter(logging.Formatter("%(message)s" + "x" * 1000))
        for _ in range(3000):  # far more than the pipe and the queue take
            handler.emit(record())
        assert handler._dropped
        rest = threading.Thread(target=read)
        rest.start()
        handler.close()
    rest.join(5)
    assert not rest.is_alive()
    assert 1000 <= len(lines) < 1500


PROGRAM = f"""
import logging, threading, warnings
from stream.relay.logs import set_up_logs
set_up_logs("json", process="room")
logging.getLogger("stream.relay.front.rooms").info("a room began", extra={{"rooms": 1}})
logging.getLogger("stream.relay.front.rooms").debug("not this")
logging.getLogger("aiortc").info("{NAME}")
warnings.warn("{NAME}")
thread = threading.Thread(target=lambda: {{}}["{NAME}"])
thread.start()
thread.join()
raise RuntimeError("{NAME}")
"""


def test_a_process_writes_nothing_else_to_stderr() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert NAME not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["message"], line.get("error")) for line in lines] == [
        ("a room began", None),
        ("a library reported something", None),
        ("a thread failed", "KeyError"),
        ("the process failed", "RuntimeError"),
    ]
    assert {line["process"] for line in lines} == {"room"}


def test_the_handler_is_the_only_one() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    own = {name: logging.getLogger(name).level for name in ("engine", "stream", "run_stream")}
    handler = set_up_logs("text", process="front", stream=io.StringIO())
    try:
        assert root.handlers == [handler]
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.captureWarnings(False)
        sys.excepthook, threading.excepthook = hooks
        for name, value in own.items():
            logging.getLogger(name).setLevel(value)
        handler.close()
