import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import ConfigError
from training.public_networks import SYNCNET, restore
from training.weights import Weights, load_weights, save_weights

pytestmark = pytest.mark.unit

WEIGHTS = Weights(
    kind="wav2lip",
    config={"layers": 2, "trunk": [8, 8]},
    source="public ü.pth",
    source_sha256="00" * 32,
    licence="none",
    training_data="noise",
    tensors={"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)},
)


def test_weights_and_facts_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "w.safetensors"
    save_weights(path, WEIGHTS)
    found = load_weights(path)
    assert replace(found, tensors={}) == replace(WEIGHTS, tensors={})
    assert found.tensors.keys() == WEIGHTS.tensors.keys()
    for name, tensor in WEIGHTS.tensors.items():
        assert torch.equal(found.tensors[name], tensor)
    assert [file.name for file in path.parent.iterdir()] == ["w.safetensors"]


def test_file_that_can_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be written"):
        save_weights(tmp_path / "file" / "w.safetensors", WEIGHTS)
    (tmp_path / "w.safetensors").mkdir()
    with pytest.raises(ConfigError, match="can't be written"):
        save_weights(tmp_path / "w.safetensors", WEIGHTS)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "w.safetensors"]


def facts(**changes: Any) -> dict[str, str]:
    plain = {"kind": "a", "source": "b", "source_sha256": "c", "licence": "d", "training_data": "e"}
    return {"lipstream": json.dumps({"format": 1, **plain, "config": {}, **changes})}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "does not say what its weights are"),
        ({"lipstream": "[]"}, "does not say"),
        ({"lipstream": "{"}, "does not say"),
        ({"lipstream": '{"format": 1}'}, "does not say"),
        (facts(kind=["wav2lip"]), "does not say"),
        (facts(config=3), "does not say"),
        (facts(format=9), "have format 9, this program reads 1"),
    ],
)
def test_other_files_of_tensors_are_refused(
    tmp_path: Path, metadata: dict[str, str] | None, message: str
) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(ConfigError, match=message):
        load_weights(path)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(ConfigError, match="no weights at"):
        load_weights(path)
    path.write_bytes(b"\x00" * 40)
    with pytest.raises(ConfigError, match="is the file whole"):
        load_weights(path)


def test_weights_that_do_not_fit_their_network_are_refused() -> None:
    for kind in (SYNCNET, "avhubert"):
        with pytest.raises(ConfigError, match="do not fit"):
            restore(replace(WEIGHTS, kind=kind))
    with pytest.raises(ConfigError, match="no network 'other'; there are avhubert, wav2lip"):
        restore(replace(WEIGHTS, kind="other"))
