import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import ConfigError
from training.checkpoint import FORMAT_VERSION, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.models


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}
    resume: dict[str, Any] = {"step": 7, "random": torch.get_rng_state(), "losses": [0.5, 0.25]}
    save_checkpoint(
        tmp_path / "runs" / "model.pt",
        config={"width": 0.25, "rows": [40, 96]},
        model=weights,
        crop={"kind": "upright-landmarks", "above": 0.5},
        training={"licence": "none"},
        resume=resume,
    )
    found = load_checkpoint(tmp_path / "runs" / "model.pt")
    assert found.kind == "generator"
    assert found.config == {"width": 0.25, "rows": [40, 96]}
    assert found.crop == {"kind": "upright-landmarks", "above": 0.5}
    assert found.training == {"licence": "none"}
    assert (found.mel, found.placement) == ({}, {})
    assert found.resume["losses"] == [0.5, 0.25]
    assert torch.equal(found.resume["random"], resume["random"])
    assert found.model.keys() == weights.keys()
    assert all(torch.equal(found.model[name], weights[name]) for name in weights)


def test_optimiser_state_survives(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    path = tmp_path / "model.pt"
    resume = {"optimiser": optimiser.state_dict()}
    save_checkpoint(path, config={}, model=layer.state_dict(), resume=resume)
    again = torch.optim.Adam(layer.parameters(), lr=1.0)
    again.load_state_dict(load_checkpoint(path).resume["optimiser"])
    assert again.param_groups[0]["lr"] == 1e-3
    assert again.state_dict()["state"][0]["step"] == 1


def test_failed_save_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(path, config={"step": 1}, model={})
    (tmp_path / "model.pt.partial").mkdir()  # where the new one would be written
    with pytest.raises(ConfigError, match="can't be written"):
        save_checkpoint(path, config={"step": 2}, model={})
    assert load_checkpoint(path).config == {"step": 1}


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no checkpoint at .*python -m training"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 broken"])
def test_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.pt"):
        load_checkpoint(path)


def test_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(path, config={}, model={"a": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ConfigError, match="can't be read as a checkpoint"):
        load_checkpoint(path)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("whole", [True, False])
def test_code_in_a_file_is_never_run(tmp_path: Path, whole: bool) -> None:
    path, sprung = tmp_path / "model.pt", tmp_path / "sprung"
    if whole:
        torch.save({"format": FORMAT_VERSION, "model": Trap(sprung)}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    with pytest.raises(ConfigError):
        load_checkpoint(path)
    assert not sprung.exists()


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"format": 1}])
def test_other_programs_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(ConfigError, match="no checkpoint of this program"):
        load_checkpoint(path)


def test_other_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(path, config={}, model={})
    torch.save({**torch.load(path, weights_only=True), "format": 9}, path)
    with pytest.raises(ConfigError, match="format 9, this program reads 1"):
        load_checkpoint(path)
