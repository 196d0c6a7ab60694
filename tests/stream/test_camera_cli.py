"""The ``camera`` command as a user types it, with files for devices."""

import json
import socket
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import run_stream
from engine.media import VideoWriter, probe, read_audio
from stream.demo import SPEECH_FILE
from stream.portrait import Portrait

pytestmark = pytest.mark.cli


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, portrait = tmp_path_factory.mktemp("film") / "film.mp4", Portrait()
    size = {"width": portrait.width, "height": portrait.height}
    with VideoWriter(path, **size, fps=Fraction(25), preset="ultrafast") as writer:
        for number in range(50):
            writer.write_frame(portrait.frame(number / 25))
    return path


def camera(*words: object) -> int:
    return run_stream.main(["camera", "--no-page", "--virtual-camera", "off", *map(str, words)])


def test_a_film_and_a_speech_make_a_session(film: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "out.json"
    words = ("--camera", film, "--target-audio", SPEECH_FILE, "--seconds", 4)
    assert camera(*words, "--record", out, "--report", report) == 0
    found = json.loads(report.read_text())
    assert found["frames"]["generated"] > 0
    assert found["gate_s"]["speech"] > 1
    assert probe(out).has_audio
    assert np.abs(read_audio(out)).max() > 0.05


def test_without_target_audio_the_real_picture_goes_out(film: Path, tmp_path: Path) -> None:
    report = tmp_path / "out.json"
    assert camera("--camera", film, "--seconds", 1.5, "--report", report) == 0
    frames = json.loads(report.read_text())["frames"]
    assert frames["generated"] == 0
    assert frames["passthrough"] > 20


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--camera", "nowhere.mp4"], "nowhere.mp4"),
        (["--target-audio", "rtmp://x"], "name a device, a file or pcm://host:port"),
        (["--target-audio", "pcm://nonsense"], "pcm://"),
        (["--size", "641x480"], "must be even"),
        (["--delay-ms", "5"], "delay_ms must be 300 to 1000"),
        (["--report", "no/such/folder.json"], "does not exist"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_sentence(
    film: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words if "--camera" in words else ["--camera", str(film), *words]
    assert camera("--seconds", 1, *given) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_the_devices_are_listed_even_where_there_are_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert camera("--list") == 0
    assert "--virtual-mic" in capsys.readouterr().out


def test_a_port_that_is_taken_is_said_before_the_session(
    film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"pcm://127.0.0.1:{taken.getsockname()[1]}"
        assert camera("--camera", film, "--seconds", 1, "--target-audio", address) == 2
    assert capsys.readouterr().err.count("\n") == 1
