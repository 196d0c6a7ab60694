"""The peer of ``bench``: networks in eager PyTorch, one chunk at a request."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.networks import tiny_generator
from training.checkpoint import load_checkpoint
from training.eager import EagerPeer, answer, frame_flops, load_peer, make_checkpoint
from training.generator import GeneratorConfig
from training.painter import build_model

if TYPE_CHECKING:
    from engine.bundle import Bundle

pytestmark = pytest.mark.models

TINY = GeneratorConfig(width=0.03, audio_width=0.03)


class Ticking:
    """A clock that goes on by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_the_paper_s_generator_is_at_least_as_large_as_wav2lip_s() -> None:
    with torch.device("meta"):
        from training.generator import Generator

        model = Generator(GeneratorConfig())
    assert sum(p.numel() for p in model.parameters()) >= 36e6
    assert frame_flops(GeneratorConfig()) >= 8e9


def test_fewer_rows_are_fewer_operations() -> None:
    assert frame_flops(GeneratorConfig(rows=(40, 96))) < frame_flops(GeneratorConfig())


def test_requests_are_answered_one_by_one_and_a_wrong_one_is_told() -> None:
    said: list[dict[str, Any]] = []
    peers = {"tiny": EagerPeer(tiny_generator(), 5)}
    requests = [
        json.dumps({"network": name, "keeps_identity": kept})
        for name, kept in (("tiny", False), ("other", False), ("tiny", True))
    ]
    answer(peers, requests, said.append, Ticking())
    assert said == [{"seconds": 1.0}, {"error": "KeyError: 'other'"}, {"seconds": 1.0}]


def test_the_identity_is_encoded_again_only_where_it_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_generator()
    peer = EagerPeer(model, 5)
    calls: list[int] = []
    encode = model.encode_identity

    def counted(identity: torch.Tensor) -> list[torch.Tensor]:
        calls.append(len(identity))
        return encode(identity)

    monkeypatch.setattr(model, "encode_identity", counted)
    peer.chunk(keeps_identity=True, clock=Ticking())
    assert not calls
    peer.chunk(keeps_identity=False, clock=Ticking())
    assert calls == [5]


def test_an_untrained_checkpoint_is_the_same_every_time_and_paints_something(
    tmp_path: Path,
) -> None:
    for name in ("a.pt", "b.pt"):
        make_checkpoint(tmp_path / name, TINY)
    first, second = (load_checkpoint(tmp_path / name) for name in ("a.pt", "b.pt"))
    assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)
    model = build_model(first)
    mel = torch.rand(2, 1, 80, 16) * 8 - 4
    pose, identity = torch.rand(2, 2, 3, 96, 96)
    with torch.inference_mode():
        frames = model(mel, pose, identity).frames
    assert frames.std() > 0.01  # a fresh network's values die away and leave one grey


def test_a_bundle_and_a_checkpoint_are_loaded_alike(tmp_path: Path, tiny_bundle: "Bundle") -> None:
    make_checkpoint(tmp_path / "a.pt", TINY)
    assert load_peer(tmp_path / "a.pt").k == 5
    assert load_peer(tiny_bundle.folder).facts()["parameters"] > 0


def test_the_program_says_what_it_holds_and_what_it_refuses(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "a.pt", TINY)
    words = [f"tiny={tmp_path / 'a.pt'}", f"gone={tmp_path / 'gone.pt'}", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "training.eager", *words],
        input='{"network": "tiny", "keeps_identity": false}\n',
        capture_output=True,
        text=True,
        check=True,
    )
    facts, answered = map(json.loads, done.stdout.splitlines())
    assert facts["threads"] == 1
    assert facts["networks"].keys() == {"tiny"}
    assert "There is no checkpoint" in facts["refused"]["gone"]
    assert answered["seconds"] > 0
