"""``relay`` and ``relay token`` as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest

import run_stream
from stream.cli_relay import ACTS
from stream.relay.front.access import Access, Act

pytestmark = pytest.mark.cli

SECRET = "0123456789abcdef" * 2
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("LIPSTREAM_") and name != "LIPSTREAM_BACKEND":
            monkeypatch.delenv(name)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def test_a_token_is_printed_and_nothing_else(
    secret_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--room", "a", "--act", "listen", "--act", "publish-language", "--language", "de"]
    assert run_stream.main(["relay", "token", *words, "--secret-file", str(secret_file)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    grant = Access(SECRET).read(captured.out.strip())
    assert grant.room == "a"
    assert set(grant.acts) == {"listen", "publish-language"}
    assert (grant.speaker, grant.language) == (None, "de")


def test_the_secret_may_be_named_before_the_word_or_in_the_environment(
    secret_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["token", "--room", "a", "--act", "admin", "--hours", "0.5"]
    assert run_stream.main(["relay", "--secret-file", str(secret_file), *words]) == 0
    monkeypatch.setenv("LIPSTREAM_RELAY_SECRET", SECRET)
    assert run_stream.main(["relay", *words]) == 0
    for token in capsys.readouterr().out.split():
        assert Access(SECRET).read(token).acts == ("admin",)


def test_the_actions_are_those_of_tokens() -> None:
    assert get_args(Act) == ACTS


TOKEN = ["token", "--room", "a", "--act", "listen"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (TOKEN, "Tokens need a secret"),
        (["token", "--room", "a b", "--act", "listen"], "The room's name has to be"),
        ([*TOKEN, "--speaker", "a b"], "A speaker's name has to be"),
        ([*TOKEN, "--language", "german!"], "A language has to be"),
        (["--host", "0.0.0.0"], "needs a secret"),
        (["--trust-proxy"], "needs a secret"),
        (["--secret-file", "nowhere"], "nowhere can't be read"),
        (["--config", "nowhere.toml"], "nowhere.toml can't be read"),
        (["--tls-key", "key.pem"], "needs its certificate"),
        (["--tls-cert", "nowhere.pem"], "nowhere.pem can't be read"),
        (["--port", "99999"], "port must be 0 to 65535"),
        (["--turn-url", "http://x"], "is no ICE server"),
        (["--turn-url", "turn:x:3478"], "needs the secret that it shares"),
        (["--translator", "x"], "ROOM/SPEAKER/LANG=URL"),
        (["--bundle", "nowhere", "--port", "0"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_sentence(
    words: list[str], sentence: str, tmp_path: Path
) -> None:
    environment = dict(os.environ)
    if words[0] == "token" and words != TOKEN:
        environment["LIPSTREAM_RELAY_SECRET"] = SECRET
    done = subprocess.run(
        [sys.executable, ROOT / "run_stream.py", "relay", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert sentence in done.stderr
    assert done.stderr.startswith("lipstream: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["--secret", SECRET], [*TOKEN, "--secret", SECRET], [*TOKEN, "--hours", "999"]]
)
def test_what_can_not_be_typed_is_wrong_use(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as found:
        run_stream.main(["relay", *words])
    assert found.value.code == 2
    capsys.readouterr()


# The real thing


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, ROOT / "run_stream.py", "relay", "--port", "0", "--drain-s", "5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,  # a signal for the group is for this relay alone
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=20)


def address(relay: subprocess.Popen[str]) -> str:
    assert relay.stdout is not None
    for line in relay.stdout:
        if line.startswith("The page: "):
            return line.removeprefix("The page: ").strip()
    raise AssertionError("it did not begin")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_the_relay_begins_and_ends(relay: subprocess.Popen[str], number: signal.Signals) -> None:
    url = address(relay)
    with urllib.request.urlopen(f"{url}healthz", timeout=5) as response:
        assert json.load(response)["status"] == "ok"
    # As a terminal and systemd do it: all processes get it, and only the first one answers.
    os.killpg(relay.pid, number)
    _, errors = relay.communicate(timeout=30)
    assert relay.returncode == 0
    messages = [json.loads(line)["message"] for line in errors.splitlines()]
    assert messages == ["the relay began", "the relay drains", "the relay ends"]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{url}healthz", timeout=5)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_nothing_outlives_a_relay_that_is_killed(relay: subprocess.Popen[str]) -> None:
    address(relay)
    assert len(group(relay.pid)) >= 3  # front, engine, and a room that stands by
    relay.kill()
    deadline = time.monotonic() + 20
    while left := group(relay.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def group(number: int) -> list[int]:
    """The processes of a group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == number and state != "Z":
                found.append(int(path.parent.name))
    return found
