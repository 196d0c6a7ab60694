"""``python -m training import`` as a user types it."""

from pathlib import Path

import pytest
import torch

from tests.training.public_files import random_state, write
from training.__main__ import main
from training.avhubert import AvHubertConfig
from training.public_networks import AVHUBERT
from training.weights import load_weights

pytestmark = pytest.mark.cli

NARROW = AvHubertConfig(layers=1, dim=64, ffn=64, heads=1, trunk=(8, 8, 8, 8)).to_dict()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = {**random_state(AVHUBERT, NARROW), "mask_emb": torch.zeros(104)}
    return write(tmp_path / "base.pt", {"model": model})


def test_import_says_what_it_was_where_it_went_and_its_terms(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "expert.safetensors"
    assert main(["import", str(checkpoint), "-o", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    parameters = sum(
        tensor.numel()
        for name, tensor in load_weights(out).tensors.items()
        if not name.endswith(("tracked", "running_mean", "running_var"))
    )
    assert lines[0] == f"base.pt: pretrained AV-HuBERT, {parameters:,} parameters"
    assert lines[1] == "left out: mask_emb"
    assert lines[2] == f"{out}: avhubert"
    assert lines[3].startswith("licence: AV-HuBERT licence of Meta: non-commercial research only")
    assert lines[4].startswith("training data: LRS3")


def test_licence_and_training_data_can_be_stated(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "expert.safetensors"
    facts = ["--licence", "CC0", "--training-data", "my own"]
    assert main(["import", str(checkpoint), "-o", str(out), *facts]) == 0
    weights = load_weights(out)
    assert (weights.licence, weights.training_data) == ("CC0", "my own")


def test_wrong_files_are_one_sentence(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, out in ((tmp_path / "no.pt", "w.safetensors"), (checkpoint, "w.pt")):
        assert main(["import", str(file), "-o", str(tmp_path / out)]) == 2
        streams = capsys.readouterr()
        assert streams.out == ""
        assert streams.err.startswith("lipstream-train: ")
        assert streams.err.count("\n") == 1
    assert not list(tmp_path.glob("w.*"))
