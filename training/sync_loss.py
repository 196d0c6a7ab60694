"""The lip expert's lesson: what the lips say at a moment is what is heard at that moment.

Legend of shapes: B samples, T frames, D width of the features; all similarities are cosines.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncWeights:
    """Weights and settings of the loss.

    Attributes:
        temperature: that divides the cosines of frames.
        others: of the other samples' frames, one in so many is one more wrong answer.
        clips: weight of telling whole windows apart.
        clip_temperature: that divides the cosines of windows.
        nothing: weight of finding nothing where there is nothing to find.
        nothing_at: cosine that stands for nothing: a frame without a match must stay below.
    """

    temperature: float = 0.07
    others: int = 48
    clips: float = 0.5
    clip_temperature: float = 0.1
    nothing: float = 0.0
    nothing_at: float = 0.3


@dataclass(frozen=True, slots=True)
class SyncLosses:
    """The terms, each a scalar.

    Attributes:
        frames: mean cross-entropy of a frame's match among the window's frames and others.
        clips: of a window's match among the batch.
        nothing: how loudly frames without a match ask for one.
        total: their weighted sum.
    """

    frames: Tensor
    clips: Tensor
    nothing: Tensor
    total: Tensor

    def scalars(self) -> dict[str, float]:
        """The terms as plain numbers."""
        return {item.name: float(getattr(self, item.name).detach()) for item in fields(self)}


def sync_loss(
    lips: Tensor,
    sound: Tensor,
    shift: Tensor,
    moving: Tensor,
    audible: Tensor,
    weights: SyncWeights | None = None,
) -> SyncLosses:
    """How badly lips and speech find each other.

    A pair counts as matching where its picture moves and its sound is the speech's own. The other
    frames, of a frozen picture or a muted sound, are wrong answers to all questions and have none.

    Args:
        lips: (B, T, D), lips alone.
        sound: (B, T, D), sound alone.
        shift: (B,), what the lips say at t is heard at t + shift.
        moving: (B, T), whether the picture moves.
        audible: (B, T), whether the sound is the speech's own.
        weights: of the terms.

    Returns:
        The terms.
    """
    weights = weights or SyncWeights()
    lips, sound = F.normalize(lips, dim=-1), F.normalize(sound, dim=-1)
    heard_at, pairs = _matches(shift, moving, audible)  # (B, T) each
    said_at, pairs_back = _matches(-shift, audible, moving)
    own = torch.einsum("btd,bsd->bts", lips, sound)  # (B, T of lips, T of sound)
    back = own.transpose(1, 2)
    far = _others(lips, sound, weights.others)  # (B, T, wrong answers)
    far_back = _others(sound, lips, weights.others)

    asked = [
        _ask(own, far, heard_at, pairs, weights.temperature),
        _ask(back, far_back, said_at, pairs_back, weights.temperature),
    ]
    count = pairs.sum() + pairs_back.sum()
    frames = torch.stack(asked).sum() / count.clamp(min=1)
    nothing = torch.stack(
        [_expect_nothing(own, ~moving, weights), _expect_nothing(back, ~audible, weights)]
    ).mean()
    clips = _tell_clips_apart(lips, sound, heard_at, pairs, weights.clip_temperature)
    total = frames + weights.clips * clips + weights.nothing * nothing
    return SyncLosses(frames, clips, nothing, total)


def _matches(shift: Tensor, asking: Tensor, answering: Tensor) -> tuple[Tensor, Tensor]:
    """Where each frame's match lies in the other window, and whether it has one that counts."""
    length = asking.shape[1]
    place = torch.arange(length, device=shift.device)[None] + shift[:, None]  # (B, T)
    within = (place >= 0) & (place < length)
    place = place.clamp(0, length - 1)
    return place, within & asking & answering.gather(1, place)


def _others(asking: Tensor, answering: Tensor, one_in: int) -> Tensor:
    """Cosines with the other samples' frames, (B, T, B · T / one_in); −inf for a sample's own."""
    count = len(asking)
    cosines = torch.einsum("btd,csd->btcs", asking, answering[:, ::one_in])
    own = torch.eye(count, dtype=torch.bool, device=asking.device)[:, None, :, None]
    return cosines.masked_fill(own, -torch.inf).flatten(2)


def _ask(own: Tensor, far: Tensor, place: Tensor, pairs: Tensor, temperature: float) -> Tensor:
    """Sum of the cross-entropies of the frames that have a match."""
    logits = torch.cat([own, far], dim=2)[pairs] / temperature  # (pairs, answers)
    return F.cross_entropy(logits, place[pairs], reduction="sum")


def _expect_nothing(own: Tensor, unmatched: Tensor, weights: SyncWeights) -> Tensor:
    """Mean cross-entropy of answering nothing, over the frames that have no match."""
    if not bool(unmatched.any()):
        return own.new_zeros(())
    answers = F.pad(own[unmatched], (1, 0), value=weights.nothing_at) / weights.temperature
    return F.cross_entropy(answers, torch.zeros_like(answers[:, 0], dtype=torch.long))


def _tell_clips_apart(
    lips: Tensor, sound: Tensor, place: Tensor, pairs: Tensor, temperature: float
) -> Tensor:
    """Cross-entropy, both ways, of each window's match among the batch."""
    # Each sample's lips with every sample's sound, heard where the sample's own is.
    heard = sound[:, place]  # (C, B, T, D)
    cosines = torch.einsum("btd,cbtd->bct", lips, heard)
    shared = pairs[:, None].to(cosines.dtype)
    means = (cosines * shared).sum(-1) / shared.sum(-1).clamp(min=1)  # (B, C)
    known = pairs.any(dim=1)
    if int(known.sum()) < 2:
        return means.new_zeros(())
    logits = means[known][:, known] / temperature
    target = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
