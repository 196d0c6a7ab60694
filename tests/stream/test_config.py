import dataclasses
from pathlib import Path

import pytest

from engine.bundle import STARTER
from engine.enhance import STRENGTH
from engine.errors import ConfigError
from stream.cli import parse
from stream.config import READERS, Settings

pytestmark = pytest.mark.unit


def write(folder: Path, text: str) -> Path:
    path = folder / "lipstream.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_hold_where_nothing_is_set() -> None:
    settings = Settings.load(environment={})
    assert settings == Settings()
    assert settings.bundle_folder == STARTER
    assert settings.badge


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, 'threads = 3\nx264_crf = 20\nx264_preset = "fast"\nbadge = false\n')
    environment = {"LIPSTREAM_THREADS": "4", "LIPSTREAM_X264_CRF": "21"}
    settings = Settings.load(file, environment, threads=5, badge=None)
    assert settings.threads == 5
    assert settings.x264_crf == 21
    assert settings.x264_preset == "fast"
    assert not settings.badge
    assert settings.bundle_folder == STARTER


def test_every_field_can_be_set_everywhere() -> None:
    assert list(READERS) == [field.name for field in dataclasses.fields(Settings)]


def test_the_run_time_is_chosen_like_everything_else(tmp_path: Path) -> None:
    assert (Settings().backend, Settings().backends_off) == ("auto", ())
    file = write(tmp_path, 'backend = "onnxruntime"\nbackends_off = ["tensorrt"]\n')
    settings = Settings.load(file, {})
    assert (settings.backend, settings.backends_off) == ("onnxruntime", ("tensorrt",))
    variables = {
        "LIPSTREAM_BACKEND": "openvino-int8",
        "LIPSTREAM_BACKENDS_OFF": "onnxruntime tensorrt",
    }
    settings = Settings.load(file, variables)
    assert settings.backend == "openvino-int8"
    assert settings.backends_off == ("onnxruntime", "tensorrt")
    assert Settings.load(file, variables, backend="openvino").backend == "openvino"


@pytest.mark.parametrize(
    "words", [["dub", "face", "speech", "-o", "out"], ["demo"], ["camera"], ["relay"], ["doctor"]]
)
def test_every_command_that_paints_has_the_flags_of_the_run_time(words: list[str]) -> None:
    off = ["--no-backend", "tensorrt", "--no-backend", "openvino"]
    given = parse([*words, "--backend", "onnxruntime-int8", *off]).settings
    assert given["backend"] == "onnxruntime-int8"
    assert given["backends_off"] == ["tensorrt", "openvino"]
    left_out = parse(words).settings
    assert (left_out["backend"], left_out["backends_off"]) == (None, None)


def test_a_folder_in_a_file_counts_from_the_file(tmp_path: Path) -> None:
    settings = Settings.load(write(tmp_path, 'bundle_folder = "mine"\n'), {})
    assert settings.bundle_folder == tmp_path / "mine"


def test_a_model_that_enhances_is_found_beside_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'enhance_model = "gfpgan.onnx"\nenhance_strength = 1\n')
    settings = Settings.load(file, {"LIPSTREAM_ENHANCE_STRENGTH": "0.25"})
    assert settings.enhance_model == tmp_path / "gfpgan.onnx"
    assert settings.enhance_strength == 0.25
    assert Settings.load(file, {}, enhance_strength=0.5).enhance_strength == 0.5


def test_the_default_strength_is_the_engine_s() -> None:
    assert Settings().enhance_strength == STRENGTH


@pytest.mark.parametrize(("text", "value"), [("0", False), ("No", False), ("on", True)])
def test_switches_are_read_from_the_environment(text: str, value: bool) -> None:
    assert Settings.load(environment={"LIPSTREAM_BADGE": text}).badge is value


@pytest.mark.parametrize(
    ("name", "text"),
    [("THREADS", "two"), ("THREADS", "0"), ("BADGE", "maybe"), ("X264_PRESET", "quick")],
)
def test_an_illegal_variable_is_named(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=name.lower() if text in ("0", "quick") else name):
        Settings.load(environment={f"LIPSTREAM_{name}": text})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed = 3", "'speed', which is no setting; there are: bundle_folder, threads"),
        ("threads = true", "threads in .* must be a whole number, not True"),
        ('threads = "2"', "threads in .* must be a whole number, not '2'"),
        ("badge = 1", "badge in .* must be true or false, not 1"),
        ("threads = 65", "threads must be 1 to 64, not 65"),
        ("enhance_strength = nan", "enhance_strength must be 0 to 1, not nan"),
        ("x264_crf = 52", "x264_crf must be 0 to 51, not 52"),
        ("threads = ", "not valid TOML"),
        ('backend = "cuda"', "backend must be auto, a run time .* not 'cuda'"),
        ('backends_off = ["cuda"]', "switched off are openvino, onnxruntime, tensorrt, not 'cuda'"),
        ('backends_off = "openvino"', "backends_off in .* must be a list of texts"),
        ('backend = "openvino-int8"\nbackends_off = ["openvino"]', "asked for and switched off"),
        ('backends_off = ["openvino", "onnxruntime", "tensorrt"]', "Every run time is switched"),
    ],
)
def test_an_illegal_file_says_which_field_and_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.load(write(tmp_path, text), {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml can't be read"):
        Settings.load(tmp_path / "nowhere.toml", {})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid TOML"):
        Settings.load(path, {})
