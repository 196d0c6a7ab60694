"""The command line as a user types it, on a network that paints the mouth as its sound is loud."""

import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import run_stream
from engine.backends.openvino import OpenVinoNetwork
from engine.errors import EngineError
from engine.files import sha256_of
from engine.mark import Badge
from engine.media import VideoReader, VideoWriter, probe, read_audio
from stream.portrait import Portrait
from tests.engine.test_media import write_media
from tests.painter import paint_bundle
from tests.restorers import write_restorer

pytestmark = pytest.mark.cli

ROOT = Path(run_stream.__file__).parent
MOUTH = (slice(300, 340), slice(255, 312))  # where it paints in the built-in portrait
RATE = 48_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_bundle(tmp_path_factory.mktemp("bundle") / "painter").folder


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return Portrait()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, portrait: Portrait) -> Path:
    """Inputs, good and bad; nothing writes here."""
    folder = tmp_path_factory.mktemp("files")
    face = portrait.frame(0.0)
    cv2.imwrite(str(folder / "face.png"), face[..., ::-1])
    cv2.imwrite(str(folder / "grey.png"), np.full_like(face, 90))
    cv2.imwrite(str(folder / "8x8.png"), np.zeros((8, 8, 3), np.uint8))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is not a film.\n" * 50)
    with VideoWriter(folder / "film.mp4", width=64, height=48, fps=Fraction(25)) as writer:
        for level in range(50, 75):
            writer.write_frame(np.full((48, 64, 3), level, np.uint8))
    (folder / "cut.mp4").write_bytes((folder / "film.mp4").read_bytes()[:900])
    write_media(folder / "speech.wav", sound=bursts(1.2), rate=RATE)
    write_restorer(folder / "brighter.onnx", add=0.4)  # 51 levels
    write_media(folder / "short.wav", sound=bursts(1.2)[: RATE // 20], rate=RATE)
    return folder


def bursts(seconds: float) -> NDArray[np.float32]:
    """Stereo noise, 0.4 s silent and 0.4 s loud in turn; left louder than right."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * RATE))
    loud = np.arange(len(noise)) // round(0.4 * RATE) % 2
    return np.stack([noise * loud, 0.2 * noise * loud], axis=1).astype(np.float32)


def run(*words: object) -> int:
    return run_stream.main([str(word) for word in words])


def pictures_of(path: Path) -> NDArray[np.uint8]:
    return np.stack([picture for _, picture in VideoReader(path)])


# What comes out


def test_a_still_speaks_at_25_pictures_a_second_with_the_speech_at_its_own_quality(
    tmp_path: Path, files: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    words = ["dub", files / "face.png", files / "speech.wav", "-o", out, "--bundle", bundle]
    assert run(*words, "--report", report, "--threads", "1") == 0
    streams = capsys.readouterr()
    assert streams.err == ""
    assert streams.out.startswith(f"{out}: 1.2 s, 30 frames (30 lip-synced), ")
    assert streams.out.endswith(" x real time\n")
    info = probe(out)
    assert (info.width, info.height, info.fps, info.sample_rate) == (576, 576, Fraction(25), RATE)
    assert len(pictures_of(out)) == 30
    assert len(read_audio(out)) / 16_000 == pytest.approx(1.2, abs=0.05)
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        sound = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)
    levels = sound[:, : round(1.2 * RATE)].std(axis=1)
    assert levels[1] / levels[0] == pytest.approx(0.2, rel=0.15)
    found = json.loads(report.read_text())
    assert (found["frames"], found["modified_frames"], found["passthrough_frames"]) == (30, 30, 0)
    assert (found["duration_s"], found["bundle"], found["threads"]) == (1.2, "painter", 1)
    assert found["times_real_time"] == pytest.approx(1.2 / found["wall_s"], rel=0.01)
    assert (found["backend"], len(found["bundle_sha256"])) == ("openvino-fp32", 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "report.json"]


def test_another_run_time_paints_the_same(
    tmp_path: Path, files: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by a flag, and where it is the only one that is left on."""
    report = tmp_path / "report.json"
    words = ["dub", files / "face.png", files / "speech.wav", "--bundle", bundle]
    choices: dict[str, list[str]] = {
        "openvino-fp32": [],
        "onnxruntime-fp32": ["--backend", "onnxruntime"],
        "onnxruntime-fp32 ": ["--no-backend", "openvino", "--no-backend", "tensorrt"],
    }
    films = []
    for name, flags in choices.items():
        if "--no-backend" in flags:
            monkeypatch.setenv("LIPSTREAM_BACKEND", "auto")
        out = tmp_path / "out.mp4"
        assert run(*words, "-o", out, "--report", report, *flags) == 0
        assert json.loads(report.read_text())["backend"] == name.strip()
        films.append(pictures_of(out).astype(int))
    for film in films[1:]:
        assert np.abs(film - films[0]).max() <= 8  # levels: a step of x264's, no other picture


def test_a_run_time_that_fails_on_the_way_is_replaced_with_one_line(
    tmp_path: Path,
    files: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = []
    paint = OpenVinoNetwork.__call__

    def fail(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 2:
            raise EngineError("OpenVINO failed")
        return paint(*arguments)

    monkeypatch.setattr(OpenVinoNetwork, "__call__", fail)
    report = tmp_path / "report.json"
    words = ["dub", files / "face.png", files / "speech.wav", "--bundle", bundle]
    assert run(*words, "-o", tmp_path / "out.mp4", "--report", report) == 0
    found = json.loads(report.read_text())
    assert (found["backend"], found["modified_frames"]) == ("onnxruntime-fp32", 30)
    assert caplog.messages == ["openvino-fp32 failed, onnxruntime-fp32 goes on: OpenVINO failed"]
    assert len(calls) == 3


def test_the_mouth_follows_the_sound(tmp_path: Path, files: Path, bundle: Path) -> None:
    out = tmp_path / "out.mp4"
    words = ["dub", files / "face.png", files / "speech.wav", "-o", out]
    assert run(*words, "--bundle", bundle) == 0
    light = pictures_of(out)[:, MOUTH[0], MOUTH[1]].mean(axis=(1, 2, 3))
    middle = (light.min() + light.max()) / 2
    assert np.ptp(light) > 60
    bright = np.flatnonzero(light > middle)
    # 0.4 to 0.8 s are the pictures 10 to 19; a window's middle is 25 ms after its picture.
    assert (bright[0], bright[-1]) == (pytest.approx(9.5, abs=1), pytest.approx(19.5, abs=1))
    assert len(bright) == bright[-1] - bright[0] + 1


def test_a_film_keeps_its_rate_and_its_frames_without_a_face(
    tmp_path: Path, files: Path, bundle: Path, portrait: Portrait
) -> None:
    film, fps = tmp_path / "film.mp4", Fraction(30_000, 1001)
    pattern = np.random.default_rng(1).integers(60, 190, (36, 36, 3), np.uint8)
    empty = cv2.resize(pattern, (576, 576), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    with VideoWriter(film, width=576, height=576, fps=fps, crf=5) as writer:
        for number in range(20):
            writer.write_frame(empty if number < 6 else portrait.frame(number / 30))
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    words = ["dub", film, files / "speech.wav", "-o", out, "--bundle", bundle]
    assert run(*words, "--report", report) == 0
    found = json.loads(report.read_text())
    # 1.2 s are 36 pictures: 0 to 19, then back to 3; 0 to 5 are empty, and 5 to 3 again.
    assert (found["frames"], found["passthrough_frames"]) == (36, 9)
    assert probe(out).fps == fps
    written = pictures_of(out)
    for place in (2, 5, 33, 35):
        assert np.abs(written[place].astype(int) - empty).mean() < 4
    back = np.abs(written[19 + 5].astype(int) - written[19 - 5]).mean(axis=2)
    assert back[:150].mean() < 2  # the same picture above the mouth


def test_modified_pictures_carry_a_badge_unless_it_is_switched_off(
    tmp_path: Path, files: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    badge = Badge(576, 576)
    words = ["dub", files / "face.png", files / "speech.wav", "--bundle", bundle]
    assert run(*words, "-o", tmp_path / "on.mp4") == 0
    assert run(*words, "-o", tmp_path / "off.mp4", "--no-badge") == 0
    monkeypatch.setenv("LIPSTREAM_BADGE", "off")
    assert run(*words, "-o", tmp_path / "too.mp4") == 0
    on, off, too = (pictures_of(tmp_path / f"{name}.mp4") for name in ("on", "off", "too"))
    np.testing.assert_array_equal(off, too)
    apart = np.abs(on.astype(int) - off).max(axis=-1)
    assert (apart[:, badge.rows, badge.columns].mean(axis=(1, 2)) > 30).all()
    apart[:, badge.rows, badge.columns] = 0
    assert apart.mean() < 1


def test_painted_mouths_are_enhanced_and_nothing_else_is(
    tmp_path: Path,
    files: Path,
    bundle: Path,
    portrait: Portrait,
    capsys: pytest.CaptureFixture[str],
) -> None:
    film, model, report = tmp_path / "film.mp4", files / "brighter.onnx", tmp_path / "report.json"
    empty = np.full((576, 576, 3), 90, np.uint8)
    with VideoWriter(film, width=576, height=576, fps=Fraction(25), crf=5) as writer:
        for number in range(30):
            writer.write_frame(empty if number < 6 else portrait.frame(number / 25))
    words = ["dub", film, files / "speech.wav", "--bundle", bundle]
    assert run(*words, "-o", tmp_path / "plain.mp4", "--report", report) == 0
    assert json.loads(report.read_text())["enhance"] is None
    better = [*words, "--enhance", model, "--report", report]
    assert run(*better, "-o", tmp_path / "better.mp4", "--enhance-strength", "0.5") == 0
    assert "30 frames (24 lip-synced and enhanced)" in capsys.readouterr().out
    found = json.loads(report.read_text())
    took_ms = found["enhance"].pop("ms_per_frame")
    assert 0 < took_ms < 10_000
    expected = {"model": "brighter.onnx", "sha256": sha256_of(model), "strength": 0.5}
    assert found["enhance"] == expected
    plain, enhanced = (pictures_of(tmp_path / f"{name}.mp4") for name in ("plain", "better"))
    brighter = enhanced.astype(int) - plain
    assert brighter[6:, MOUTH[0], MOUTH[1]].mean() == pytest.approx(25.5, abs=4)
    assert np.abs(brighter[:6]).mean() < 1
    badge = Badge(576, 576)
    assert np.abs(brighter[6:, badge.rows, badge.columns]).mean() < 2
    assert np.abs(brighter[6:, :250]).mean() < 1


def test_a_strength_of_0_leaves_enhancement_out(
    tmp_path: Path, files: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["dub", files / "face.png", files / "speech.wav", "--bundle", bundle]
    report = tmp_path / "report.json"
    assert run(*words, "-o", tmp_path / "plain.mp4") == 0
    monkeypatch.setenv("LIPSTREAM_ENHANCE_MODEL", str(files / "brighter.onnx"))
    zero = ["--enhance-strength", "0", "--report", report]
    assert run(*words, "-o", tmp_path / "zero.mp4", *zero) == 0
    assert json.loads(report.read_text())["enhance"] is None
    assert (tmp_path / "zero.mp4").read_bytes() == (tmp_path / "plain.mp4").read_bytes()


def test_demo_needs_no_file_and_says_whose_picture_it_modifies(
    tmp_path: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("demo", "--seconds", "1", "--bundle", bundle, "--no-page", "--report", "report.json")
    backend = ("--backend", "onnxruntime")
    assert run(*words, *backend, "--record", "seen.mp4", "--trace", "trace.jsonl") == 0
    streams = capsys.readouterr()
    assert "modified picture of a real person" in streams.out
    assert "Eileen Collins" in streams.out
    assert "pictures" in streams.out
    assert streams.err == ""
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["report.json", "seen.mp4", "trace.jsonl"]
    assert json.loads(Path("report.json").read_text())["backend"] == "onnxruntime-fp32"
    assert len(pictures_of(Path("seen.mp4"))) >= 24
    events = [json.loads(line) for line in Path("trace.jsonl").read_text().splitlines()]
    assert {"seen", "compose"} <= {event[0] for event in events}


# What goes wrong


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(*words) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("lipstream: ")
    assert streams.err.count("\n") == 1
    return streams.err


def test_a_session_whose_run_time_can_t_be_had_is_refused_before_it_begins(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("demo", "--no-page", "--bundle", bundle, "--record", tmp_path / "seen.mp4")
    assert run(*words, "--backend", "onnxruntime-int8", "--no-backend", "tensorrt") == 2
    assert capsys.readouterr().err == (
        "lipstream: onnxruntime-int8 can't be used here: the bundle was not checked in int8; there"
        " is: openvino-fp32, onnxruntime-fp32.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("face", "speech", "message"),
    [
        ("grey.png", "speech.wav", r"No face was found in .*grey\.png"),
        ("film.mp4", "speech.wav", r"No face was found in .*film\.mp4"),
        ("8x8.png", "speech.wav", r"8x8\.png is only 8 x 8 pixels"),
        ("empty.mp4", "speech.wav", r"empty\.mp4 is empty"),
        ("text.mp4", "speech.wav", r"text\.mp4 can't be read"),
        ("cut.mp4", "speech.wav", r"cut\.mp4 can't be read"),
        ("nowhere.mp4", "speech.wav", r"nowhere\.mp4 does not exist"),
        ("speech.wav", "speech.wav", r"speech\.wav has no picture"),
        ("face.png", "film.mp4", r"film\.mp4 has no sound"),
        ("face.png", "face.png", r"face\.png has no sound"),
        ("face.png", "short.wav", r"short\.wav holds only 0\.05 s .* at least 0\.2 s"),
        ("face.png", "empty.mp4", r"empty\.mp4 is empty"),
        ("face.png", "text.mp4", r"text\.mp4 can't be read"),
        ("face.png", "cut.mp4", r"cut\.mp4 can't be read"),
    ],
)
def test_an_unfit_input_is_one_sentence_and_leaves_nothing(
    tmp_path: Path,
    files: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    face: str,
    speech: str,
    message: str,
) -> None:
    words = ["dub", files / face, files / speech, "-o", tmp_path / "out.mp4", "--bundle", bundle]
    assert re.search(message, refused(capsys, *words))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "no/out.mp4"], "folder no does not exist"),
        (["-o", "out.avi"], "name a file ending in .mp4"),
        (["-o", "mine.png"], "mine.png is an input as well"),
        (["-o", "out.mp4", "--report", "no/r.json"], "folder no does not exist"),
        (["-o", "out.mp4", "--report", "out.mp4"], "would overwrite out.mp4"),
        (["-o", "out.mp4", "--report", "mine.png"], "would overwrite mine.png"),
        (["-o", "out.mp4", "--threads", "0"], "threads must be 1 to 64"),
        (["-o", "out.mp4", "--backend", "cuda"], "backend must be auto, a run time"),
        (["-o", "out.mp4", "--no-backend", "cuda"], "not 'cuda'"),
        (["-o", "out.mp4", "--backend", "openvino-int8"], "bundle was not checked in int8"),
        (["-o", "out.mp4", "--enhance", "no.onnx"], "no.onnx can't be read"),
        (["-o", "out.mp4", "--enhance", "mine.png"], "mine.png is no .onnx file"),
        (["-o", "out.mp4", "--enhance-strength", "2"], "enhance_strength must be 0 to 1"),
        (["-o", "out.mp4", "--enhance", "r.onnx", "--report", "r.onnx"], "overwrite r.onnx"),
        (["-o", "out.mp4", "--config", "no.toml"], "no.toml can't be read"),
        (["-o", "out.mp4", "--bundle", "nowhere"], "no bundle at nowhere"),
        (["-o", "out.mp4", "--bundle", "changed"], "generator.onnx in changed has changed"),
    ],
)
def test_an_unfit_choice_is_one_sentence_before_any_network_is_loaded(
    tmp_path: Path,
    files: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("engine.dub.LipSync", None)
    face = (files / "face.png").read_bytes()
    Path("mine.png").write_bytes(face)
    Path("changed").mkdir()
    for file in bundle.iterdir():
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= file.suffix == ".onnx"
        (Path("changed") / file.name).write_bytes(content)
    given = [] if "--bundle" in words else ["--bundle", bundle]
    assert message in refused(capsys, "dub", "mine.png", files / "speech.wav", *words, *given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["changed", "mine.png"]
    assert Path("mine.png").read_bytes() == face


@pytest.mark.parametrize("command", ["demo", "camera", "relay"])
def test_live_commands_refuse_enhancement_and_say_what_it_costs(
    files: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = refused(capsys, command, "--enhance", files / "brighter.onnx")
    assert re.search(r"brighter\.onnx takes \d+ ms for one on this machine.* the 40 ms", said)
    assert "use it with `dub`" in said


def test_missing_face_models_say_what_to_run(
    tmp_path: Path,
    files: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str) -> object:
        return None if name == "mediapipe" else real(name)

    monkeypatch.setattr("engine.model_files.importlib.util.find_spec", find_spec)
    words = ["dub", files / "face.png", files / "speech.wav", "-o", tmp_path / "out.mp4"]
    assert "--no-deps mediapipe" in refused(capsys, *words, "--bundle", bundle)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_run_time_is_no_fault_of_the_user(
    tmp_path: Path,
    files: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise EngineError("OpenVINO failed.")

    monkeypatch.setattr("engine.chain.Generator.step", broken)
    words = ["dub", files / "face.png", files / "speech.wav", "-o", tmp_path / "out.mp4"]
    assert run(*words, "--bundle", bundle) == 1
    assert capsys.readouterr().err == "lipstream: OpenVINO failed.\n"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_the_old_file_and_nothing_else(
    tmp_path: Path,
    files: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def interrupting(text: str) -> Iterator[Callable[[int, int], None]]:
        def progress(done: int, count: int) -> None:
            if done == 7:
                signal.raise_signal(signal.SIGINT)

        yield progress

    monkeypatch.setattr(run_stream, "progress_bar", interrupting)
    out = tmp_path / "out.mp4"
    out.write_bytes(b"old")
    words = ["dub", files / "face.png", files / "speech.wav", "-o", out, "--bundle", bundle]
    # A process started in the background inherits that Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(*words) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "stopped" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["sing"],
        ["dub", "a.mp4"],
        ["dub", "a.mp4", "b.wav"],
        ["dub", "a.mp4", "b.wav", "-o", "c.mp4", "--fast"],
        ["demo", "--seconds", "0"],
        ["demo", "--seconds", "nan"],
        ["demo", "--seconds", "ten"],
    ],
)
def test_wrong_use_is_explained(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


# As a program


def program(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run_stream.py"), *map(str, words)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=100
    )


def test_the_program_writes_nothing_of_its_libraries_to_the_terminal(
    tmp_path: Path, bundle: Path
) -> None:
    done = program("demo", "--seconds", "0.4", "--no-page", "--bundle", bundle, folder=tmp_path)
    assert done.stderr == ""
    assert done.returncode == 0
    failed = program("demo", "--no-page", "--bundle", "nowhere", folder=tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1


def test_help_lists_the_commands_that_exist(tmp_path: Path) -> None:
    shown = program("--help", folder=tmp_path)
    assert shown.returncode == 0
    commands = ("dub", "demo", "camera", "relay", "doctor", "bench")
    assert all(f"  {command} " in shown.stdout for command in commands)
    assert program("--version", folder=tmp_path).stdout.startswith("lipstream ")
