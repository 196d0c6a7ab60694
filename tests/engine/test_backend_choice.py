"""Which run time is taken: what was asked for, what was found before, what is measured now."""

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine import machine
from engine.backends import (
    choice,
    loading,
    tensorrt,
    tensorrt_buffers,
    tensorrt_library,
)
from engine.backends.choice import CACHE_FILE, parse_backend, ranked
from engine.backends.fallback import open_generator, open_network
from engine.backends.interface import Variant
from engine.backends.self_benchmark import Timing
from engine.backends.tensorrt_library import Library
from engine.bundle import Bundle, write_bundle
from engine.bundle_variants import EngineFile
from engine.errors import ConfigError
from tests.painter import paint_bundle

pytestmark = pytest.mark.unit

OV32, OV8 = Variant("openvino", "fp32"), Variant("openvino", "int8")
ORT32, ORT8 = Variant("onnxruntime", "fp32"), Variant("onnxruntime", "int8")
HERE = [OV32, OV8, ORT32, ORT8]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return paint_bundle(tmp_path / "painter")


@pytest.fixture(autouse=True)
def computer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has two run times, each in two number formats."""

    def missing(variant: Variant, bundle: Bundle) -> str | None:
        return None if variant in HERE else f"no {variant.precision} in this processor"

    monkeypatch.setattr(
        choice, "usable", lambda bundle: [v for v in HERE if not missing(v, bundle)]
    )
    monkeypatch.setattr(choice, "missing", missing)
    monkeypatch.setattr(choice, "version", lambda backend: "1.0")
    monkeypatch.setattr(choice, "processor", lambda: "Fast One")


class Measuring:
    """Finds that later ones are faster; counts how often it was asked, and for what."""

    def __init__(self, *broken: Variant) -> None:
        self.asked: list[list[str]] = []
        self.broken = broken

    def __call__(
        self, bundle: Bundle, variants: Sequence[Variant], *, threads: int
    ) -> list[Timing]:
        self.asked.append([str(variant) for variant in variants])
        timings = [Timing(variant, 10.0 - n) for n, variant in enumerate(variants)]
        return [timing for timing in reversed(timings) if timing.variant not in self.broken]


Rank = Callable[..., list[str]]


@pytest.fixture
def measuring() -> Measuring:
    return Measuring()


@pytest.fixture
def rank(bundle: Bundle, measuring: Measuring, tmp_path: Path) -> Rank:
    def rank(*arguments: Any, threads: int = 2, **others: Any) -> list[str]:
        have: dict[str, Any] = {"measure": measuring, "cache": tmp_path / "cache"}
        return [*map(str, ranked(bundle, *arguments, threads=threads, **{**have, **others}))]

    return rank


def test_auto_takes_the_fastest_and_measures_once(rank: Rank, measuring: Measuring) -> None:
    order = ["onnxruntime-int8", "onnxruntime-fp32", "openvino-int8", "openvino-fp32"]
    assert rank() == order
    assert rank("auto") == order
    assert measuring.asked == [[str(variant) for variant in HERE]]


def test_a_measurement_is_one_line_in_the_log(rank: Rank, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        rank("openvino")
    assert caplog.messages == [
        "chose the run time for painter: openvino-int8 9.0 ms a chunk,"
        " openvino-fp32 10.0 ms a chunk"
    ]


def test_a_run_time_alone_takes_its_fastest_format_and_others_only_in_fp32(
    rank: Rank, measuring: Measuring
) -> None:
    assert rank("openvino") == ["openvino-int8", "openvino-fp32", "onnxruntime-fp32"]
    assert measuring.asked == [["openvino-fp32", "openvino-int8"]]


def test_one_with_its_format_is_taken_without_a_measurement(
    rank: Rank, measuring: Measuring
) -> None:
    assert rank("onnxruntime-int8") == ["onnxruntime-int8", "openvino-fp32"]
    assert measuring.asked == []


def test_what_is_switched_off_is_never_taken(rank: Rank, measuring: Measuring) -> None:
    assert rank("auto", ["openvino"]) == ["onnxruntime-int8", "onnxruntime-fp32"]
    assert rank("openvino-fp32", ("onnxruntime", "tensorrt")) == ["openvino-fp32"]
    assert measuring.asked == [["onnxruntime-fp32", "onnxruntime-int8"]]


def test_one_alone_is_not_measured(
    rank: Rank, measuring: Measuring, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(choice, "usable", lambda bundle: [OV32])
    assert rank() == ["openvino-fp32"]
    assert (measuring.asked, (tmp_path / "cache").exists()) == ([], False)


@pytest.mark.parametrize(
    ("wanted", "off", "message"),
    [
        pytest.param("coreml", [], "not 'coreml'", id="unknown"),
        pytest.param("openvino-int4", [], "not 'openvino-int4'", id="unknown-format"),
        pytest.param("openvino-", [], "not 'openvino-'", id="half-a-format"),
        pytest.param("auto-int8", [], "not 'auto-int8'", id="format-alone"),
        pytest.param("auto", ["cuda"], "not 'cuda'", id="unknown-off"),
        pytest.param("auto", ["openvino-int8"], "not 'openvino-int8'", id="format-off"),
        pytest.param("openvino-int8", ["openvino"], "asked for and switched off", id="both"),
        pytest.param(
            "auto", ["tensorrt", "openvino", "onnxruntime"], "Every run time", id="all-off"
        ),
    ],
)
def test_names_that_make_no_sense_are_refused(wanted: str, off: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_backend(wanted, off)


@pytest.mark.parametrize(
    ("wanted", "off", "message"),
    [
        (
            "tensorrt",
            ["onnxruntime"],
            "tensorrt can't be used here: no fp32 in this processor; there is: openvino-fp32,"
            " openvino-int8.",
        ),
        (
            "openvino-bf16",
            ["onnxruntime"],
            "openvino-bf16 can't be used here: no bf16 in this processor; there is:"
            " openvino-fp32, openvino-int8.",
        ),
        (
            "auto",
            ["openvino", "onnxruntime"],
            "No run time can be used here (openvino, onnxruntime switched off); tensorrt: no fp32"
            " in this processor.",
        ),
    ],
)
def test_what_can_t_be_had_says_why_and_what_can(
    rank: Rank, wanted: str, off: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        rank(wanted, off)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "change", ["bundle", "processor", "threads", "versions", "switched off", "asked for"]
)
def test_it_is_measured_again_when_something_changes(
    change: str,
    rank: Rank,
    measuring: Measuring,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rank()
    again: dict[str, Any] = {}
    words: list[Any] = []
    if change == "bundle":
        weights = dataclasses.replace(bundle.weights, licence="another")
        write_bundle(dataclasses.replace(bundle, weights=weights))
    elif change == "processor":
        monkeypatch.setattr(choice, "processor", lambda: "Slow One")
    elif change == "threads":
        again["threads"] = 3
    elif change == "versions":
        monkeypatch.setattr(choice, "version", lambda backend: "1.1")
    elif change == "switched off":
        words = ["auto", ["onnxruntime"]]
    else:
        words = ["onnxruntime"]
    rank(*words, **again)
    rank(*words, **again)
    assert len(measuring.asked) == 2


def test_choices_stand_side_by_side_and_only_the_latest_are_kept(
    rank: Rank, measuring: Measuring, tmp_path: Path
) -> None:
    for threads in range(1, 41):
        rank(threads=threads)
    rank(threads=40)
    rank(threads=9)
    assert len(measuring.asked) == 40
    rank(threads=8)
    assert len(measuring.asked) == 41
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [CACHE_FILE]


def _spoil_order(content: Any) -> Any:
    for kept in content["choices"].values():
        kept["chunk_ms"][0][0] = "openvino-int8"  # twice then
    return content


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda content: "{", id="cut"),
        pytest.param(lambda content: "[" * 100_000, id="deep"),
        pytest.param(lambda content: [], id="a-list"),
        pytest.param(lambda content: {**content, "format": 2}, id="another-format"),
        pytest.param(lambda content: {**content, "choices": 3}, id="no-choices"),
        pytest.param(
            lambda content: {**content, "choices": dict.fromkeys(content["choices"], 3)},
            id="number",
        ),
        pytest.param(
            lambda content: {
                **content,
                "choices": {key: {"chunk_ms": [["cuda-int4", 1]]} for key in content["choices"]},
            },
            id="unknown-run-time",
        ),
        pytest.param(
            lambda content: {
                **content,
                "choices": {key: {"chunk_ms": [[7, 1]]} for key in content["choices"]},
            },
            id="no-name",
        ),
        pytest.param(_spoil_order, id="one-twice"),
    ],
)
def test_a_cache_that_is_spoilt_is_measured_again_and_mended(
    spoil: Callable[[Any], Any], rank: Rank, measuring: Measuring, tmp_path: Path
) -> None:
    order = rank()
    file = tmp_path / "cache" / CACHE_FILE
    spoilt = spoil(json.loads(file.read_text()))
    file.write_text(spoilt if isinstance(spoilt, str) else json.dumps(spoilt))
    assert rank() == rank() == order
    assert len(measuring.asked) == 2


def test_a_cache_of_other_bytes_is_measured_again(
    rank: Rank, measuring: Measuring, tmp_path: Path
) -> None:
    rank()
    (tmp_path / "cache" / CACHE_FILE).write_bytes(b"\xff\xfe\x00")
    rank()
    assert len(measuring.asked) == 2


def test_a_folder_that_can_t_be_written_is_no_error(
    rank: Rank, measuring: Measuring, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    order = rank(cache=tmp_path / "file" / "cache")
    assert rank(cache=tmp_path / "file" / "cache") == order
    assert len(measuring.asked) == 2


def test_without_a_home_nothing_is_kept(
    rank: Rank, measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(choice, "user_cache", homeless)
    assert rank(cache=None) == rank(cache=None)
    assert len(measuring.asked) == 2


def test_one_that_failed_is_tried_last_and_measured_again_next_time(
    rank: Rank, tmp_path: Path
) -> None:
    broken = Measuring(ORT8)
    expected = ["onnxruntime-fp32", "openvino-int8", "openvino-fp32", "onnxruntime-int8"]
    assert rank(measure=broken) == expected
    rank(measure=broken)
    assert len(broken.asked) == 2
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {"XDG_CACHE_HOME": "/fast"}, "/fast/lipstream"),
        ("linux", {}, "/home/ann/.cache/lipstream"),
        ("darwin", {"XDG_CACHE_HOME": "/fast"}, "/home/ann/Library/Caches/lipstream"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/lipstream"),
        ("win32", {}, "/home/ann/AppData/Local/lipstream"),
    ],
)
def test_the_cache_lies_where_the_system_has_it(
    platform: str, variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ann"))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert machine.user_cache() == Path(folder)


def test_the_processor_has_a_name() -> None:
    assert machine.processor()


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        pytest.param("sm_89", None, id="fits"),
        pytest.param("sm_120", "it is for sm_89, this GPU is sm_120", id="another-gpu"),
    ],
)
def test_tensorrt_needs_an_engine_for_this_gpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, architecture: str, reason: str | None
) -> None:
    library = Library(ModuleType("tensorrt"), "tensorrt", "10.13")
    engine = EngineFile(
        file="a.engine",
        role="generator",
        precision="fp32",
        runtime="tensorrt",
        version="10.13",
        architecture="sm_89",
        model_sha256=bundle.sha256["generator.onnx"],
        batches=(5,),
    )
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(tensorrt, "missing", lambda precision: None)
    monkeypatch.setattr(tensorrt_library, "load_library", lambda: library)
    monkeypatch.setattr(tensorrt_buffers, "gpu_architecture", lambda: architecture)
    built = dataclasses.replace(bundle, engines=(engine,))
    found = loading.missing(Variant("tensorrt", "fp32"), built)
    assert found is None if reason is None else reason in str(found)
    without = str(loading.missing(Variant("tensorrt", "fp32"), bundle))
    assert "holds no TensorRT engine in fp32; run lipstream-export" in without


def test_a_run_time_that_can_t_be_imported_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise ConfigError("can't be imported")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(tensorrt, "version", broken)
    assert loading.version("tensorrt") == ""
    assert loading.version("onnxruntime")


@pytest.mark.models
def test_a_generator_is_opened_on_what_was_asked_for(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert open_network(bundle, "onnxruntime", threads=1).variant == ORT32
    assert open_network(bundle, "openvino-fp32", threads=1).left == (OV32, ORT32)
    generator = open_generator(bundle, "openvino", ["onnxruntime"], threads=1, slots=3)
    assert generator.free_slots == 3
    with pytest.raises(ConfigError, match="openvino-int8 can't be used here: the bundle was not"):
        open_network(bundle, "openvino-int8", threads=1)
