from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.training.drawn_clips import tiny_expert, without, write_all
from training.config import SyncForm
from training.mouth_cut import cut_mouths, mouth_matrices
from training.pairs import Batch, PairSampler
from training.surroundings import Context
from training.sync_objective import (
    LEAST_COSINE,
    ColourSync,
    ExpertSync,
    SyncLoss,
    minus_log,
)

pytestmark = pytest.mark.models

K = 5
ASKED: tuple[SyncForm, ...] = ("unsupervised", "visual", "multimodal")


class TinyColour(nn.Module):
    """A network of Wav2Lip's form, in small."""

    def __init__(self) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(0)
        self.voice = torch.rand(4, 80 * 16, generator=chance).double() - 0.5
        self.face = torch.rand(4, 15 * 48 * 96, generator=chance).double() - 0.5

    def hear(self, mel: Tensor) -> Tensor:
        return F.normalize(F.softplus(mel.flatten(1) @ self.voice.T), dim=1)

    def watch(self, faces: Tensor) -> Tensor:
        return F.normalize(F.softplus(0.05 * faces.flatten(1) @ self.face.T), dim=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    write_all(root)
    return root


def batch_of(root: Path, form: SyncForm, frames: int = 16, clips: int = 2) -> Batch:
    """A batch in double precision."""
    config = replace(without(sync=form, sync_frames=frames), clips=clips, k=K)
    batch = PairSampler(root / "clips", config).draw(1)
    context = batch.context
    if context is not None:
        context = replace(
            context,
            frames=context.frames.double(),
            points=context.points.double(),
            sound=context.sound.double(),
        )
    heard = None if batch.heard is None else batch.heard.double()
    return replace(batch, frames=batch.frames.double(), context=context, heard=heard)


def loss_of(form: SyncForm) -> SyncLoss:
    if form == "syncnet":
        return ColourSync(TinyColour())
    return ExpertSync(tiny_expert(torch.float64), form)


def blurred(frames: Tensor) -> Tensor:
    """What a generator might have made of frames."""
    return F.avg_pool2d(frames, 5, 1, 2)


def test_minus_log_is_the_papers_above_the_least_cosine_and_a_line_below() -> None:
    cosine = torch.tensor([1.0, 0.5, 0.21, 0.19, 0.0, -1.0], dtype=torch.float64).requires_grad_()
    loss = minus_log(cosine)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert cosine.grad is not None
    assert torch.allclose(loss[:3], -cosine[:3].log())
    assert torch.allclose(cosine.grad[:3], -1 / cosine[:3])
    assert torch.allclose(cosine.grad[3:], torch.tensor(-1 / LEAST_COSINE, dtype=torch.float64))
    assert (loss.diff() > 0).all()
    assert loss[2].item() - loss[3].item() == pytest.approx(-0.1, abs=0.01)  # without a step
    assert torch.isfinite(loss).all()


@pytest.mark.parametrize("form", [*ASKED, "syncnet"])
def test_gradients_are_those_of_finite_differences(root: Path, form: SyncForm) -> None:
    loss, batch = loss_of(form), batch_of(root, form)
    chance = torch.Generator().manual_seed(1)
    base = blurred(batch.frames)
    ways = torch.rand(2, *base.shape, generator=chance, dtype=torch.float64) - 0.5

    def along(steps: Tensor) -> Tensor:
        return loss(base + torch.einsum("s,snchw->nchw", steps, ways), batch)

    start = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(along, (start,), eps=1e-6, atol=1e-6, rtol=1e-4)
    loss_here = along(start)
    (slope,) = torch.autograd.grad(loss_here, start)
    assert loss_here.item() > 0
    assert slope.abs().max() > 1e-5


@pytest.mark.parametrize("form", ASKED)
@pytest.mark.parametrize("frames", [16, 100], ids=["part", "whole"])
def test_clip_with_the_generated_frames_in_it_is_seen_as_a_whole(
    root: Path, form: SyncForm, frames: int
) -> None:
    batch = batch_of(root, form, frames, clips=3)
    made = blurred(batch.frames)
    expert = tiny_expert(torch.float64)
    context = batch.context
    assert context is not None
    losses = []
    for index, length in enumerate(context.lengths.tolist()):
        matrices = mouth_matrices(context.points[index : index + 1, :length])[0]
        pictures = context.frames[index, :length].clone()
        true = cut_mouths(pictures, matrices)
        own = slice(int(context.starts[index]), int(context.starts[index]) + K)
        pictures[own] = made[index * K : (index + 1) * K]
        video, truth = cut_mouths(pictures, matrices)[None, None], true[None, None]
        sound = context.sound[index : index + 1, :, :length]
        pairs = {
            "unsupervised": ({"video": video}, {"audio": sound}),
            "visual": ({"video": video}, {"video": truth}),
            "multimodal": ({"video": video, "audio": sound}, {"video": truth, "audio": sound}),
        }
        ours, theirs = (expert(**given)[0, own] for given in pairs[form])
        losses.append(minus_log(F.cosine_similarity(ours, theirs, dim=-1).mean()))
    expected = torch.stack(losses).mean().item()
    assert ExpertSync(expert, form)(made, batch).item() == pytest.approx(expected, rel=1e-9)


def test_true_lips_are_like_themselves(root: Path) -> None:
    for form in ("visual", "multimodal"):
        batch = batch_of(root, form)
        assert loss_of(form)(batch.frames, batch).item() == pytest.approx(0, abs=1e-9)
        assert loss_of(form)(blurred(batch.frames), batch).item() > 1e-6


@pytest.mark.parametrize("form", [*ASKED, "syncnet"])
def test_silence_is_left_out_where_the_form_listens(root: Path, form: SyncForm) -> None:
    batch = batch_of(root, form)
    made = blurred(batch.frames)
    silent = replace(batch, spoken=torch.zeros(2, dtype=torch.bool))
    loss = loss_of(form)(made, silent).item()
    assert (loss == 0) == (form != "visual")


def test_batch_holds_what_the_form_needs(root: Path) -> None:
    batch = batch_of(root, "syncnet")
    assert batch.context is None
    assert batch.heard is not None
    assert batch.heard.shape == (2, 1, 80, 16)
    context = batch_of(root, "visual").context
    assert isinstance(context, Context)
    assert context.frames.shape == (2, 16, 3, 96, 96)
    assert context.lengths.max() == 16
    with pytest.raises(ValueError, match="clips around"):
        loss_of("visual")(batch.frames, batch)
    with pytest.raises(ValueError, match="first frame"):
        loss_of("syncnet")(batch.frames, batch_of(root, "visual"))


def test_own_frames_lie_where_the_context_says(root: Path) -> None:
    batch = batch_of(root, "visual", clips=8)
    context = batch.context
    assert context is not None
    for index, start in enumerate(context.starts.tolist()):
        own = batch.frames[index * K : (index + 1) * K]
        assert torch.equal(context.frames[index, start : start + K], own)
    assert len(np.unique(context.starts.numpy())) > 1
