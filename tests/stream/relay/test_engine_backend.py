"""The engine's generator runs on what the operator asked for."""

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError
from stream.relay.config import RelaySettings
from stream.relay.engine.process import make_generator
from stream.relay.front import serve as front
from tests.painter import paint_bundle

pytestmark = pytest.mark.models


def sent_to_a_process(make: Any) -> Any:
    return pickle.loads(pickle.dumps(make))


def test_the_choice_travels_to_the_process(tmp_path: Path) -> None:
    bundle = paint_bundle(tmp_path / "painter")
    make = sent_to_a_process(partial(make_generator, backend="onnxruntime", backends_off=()))
    assert make(bundle, 1, 3).free_slots == 3
    refused = sent_to_a_process(partial(make_generator, backend="openvino-int8"))
    with pytest.raises(ConfigError, match="openvino-int8 can't be used here"):
        refused(bundle, 1, 3)


async def test_the_relay_hands_its_settings_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = paint_bundle(tmp_path / "painter")
    made: list[Any] = []

    class Supervisor:
        def __init__(self, folder: Path, *, make: Any, **others: Any) -> None:
            made.append(make)
            raise ConfigError("no further")

    monkeypatch.setattr(front, "EngineSupervisor", Supervisor)
    monkeypatch.setattr(front, "set_up_logs", lambda *_, **__: None)
    settings = RelaySettings(backend="openvino-fp32", backends_off=("tensorrt", "onnxruntime"))
    with pytest.raises(ConfigError, match="no further"):
        await front.serve(settings, lambda line: None)
    (make,) = map(sent_to_a_process, made)
    assert make.keywords == {
        "backend": "openvino-fp32",
        "backends_off": ("tensorrt", "onnxruntime"),
    }
    assert make(bundle, 1, 2).free_slots == 2
