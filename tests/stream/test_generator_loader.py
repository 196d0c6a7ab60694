"""What a live session's generator runs on, before and after a run time failed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.backends.openvino import OpenVinoNetwork
from engine.bundle import Bundle
from engine.errors import ConfigError, EngineError
from engine.generator import Chunk, Generator
from stream.config import Settings
from stream.live.generator_loader import GeneratorLoader
from tests.painter import paint_bundle

pytestmark = pytest.mark.models


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return paint_bundle(tmp_path / "painter")


def paint(generator: Generator) -> None:
    slot = generator.open(np.zeros((96, 96, 3), np.uint8))
    mel = np.zeros((1, 1, 80, 16), np.float32)
    generator.step({slot: Chunk(mel=mel, pose=np.zeros((1, 96, 96, 3), np.uint8))})
    generator.close(slot)


def test_one_that_failed_is_not_tried_again_in_the_session(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise EngineError("OpenVINO failed")

    loader = GeneratorLoader(bundle, Settings(backend="openvino-fp32", threads=1))
    assert loader.backend() == ""
    generator = loader.load()
    paint(generator)
    assert loader.backend() == "openvino-fp32"
    monkeypatch.setattr(OpenVinoNetwork, "__call__", fail)
    paint(generator)
    assert loader.backend() == "onnxruntime-fp32"
    monkeypatch.undo()
    paint(loader.load())
    assert loader.backend() == "onnxruntime-fp32"
    assert caplog.messages == ["openvino-fp32 failed, onnxruntime-fp32 goes on: OpenVINO failed"]


def test_the_threads_and_what_is_switched_off_are_those_of_the_settings(bundle: Bundle) -> None:
    off = ("openvino", "tensorrt")
    loader = GeneratorLoader(bundle, Settings(backends_off=off, threads=1))
    loader.load()
    assert loader.backend() == "onnxruntime-fp32"
    refused = Settings(backend="onnxruntime-int8", threads=1)
    with pytest.raises(ConfigError, match="onnxruntime-int8 can't be used here"):
        GeneratorLoader(bundle, refused).load()
