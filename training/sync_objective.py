"""The lip-sync loss (§3.5 of the paper, eq. 1, and its ablation): −log of a cosine of features.

Forms:

* ``unsupervised``: the sound alone and the generated lips alone;
* ``visual``: the generated lips alone and the true lips alone;
* ``multimodal``: the generated lips with their sound and the true lips with it;
* ``syncnet``: Wav2Lip's lip expert, five generated mouths and their mel window.

An AV-HuBERT sees and hears the whole clip, in which the generated frames take the place of the
true ones; only the features of these frames count. The paper leaves two things open. Its cosine is
taken here for each frame, and their mean is the sample's, as :func:`engine.lip_sync.avs` has it.
And −log is continued in a straight line below a cosine of 0.2 (:func:`minus_log`), since features
have signs: where the paper's formula is defined and tame it is the paper's, and nowhere does the
gradient vanish, as behind a clamp, or grow without end.

Legend of shapes: B samples, k frames of one, T frames of a clip, D width of the features.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.lip_expert import AROUND
from training.avhubert import AvHubert
from training.config import SyncForm
from training.mouth_cut import box_matrices, cut_mouths, mouth_matrices, read
from training.pairs import Batch
from training.surroundings import Context
from training.wav2lip import MASKED_FROM, SIDE

LEAST_COSINE: Final = 0.2
"""Below it the loss goes on in its tangent, which falls by 5 for each 1 of the cosine."""


def minus_log(cosine: Tensor) -> Tensor:
    """−log of cosines in −1..1, with a straight line below :data:`LEAST_COSINE`."""
    line = -math.log(LEAST_COSINE) + (LEAST_COSINE - cosine) / LEAST_COSINE
    return torch.where(cosine > LEAST_COSINE, -cosine.clamp(min=LEAST_COSINE).log(), line)


class SyncLoss(Protocol):
    """A form of the lip-sync loss."""

    def __call__(self, made: Tensor, batch: Batch) -> Tensor:
        """The loss of generated crops.

        Args:
            made: (B·k, 3, S, S), RGB in [0, 1]: real crops with the painted rows in them.
            batch: what they were made from.

        Returns:
            A scalar, at least 0: the mean over the samples. One whose sound is not that of its
            frames counts 0 where the form listens.
        """


class ExpertSync:
    """The forms that ask an AV-HuBERT.

    Args:
        expert: frozen and in ``eval``, on the device of the pictures.
        form: ``unsupervised``, ``visual`` or ``multimodal``.
    """

    def __init__(self, expert: AvHubert, form: SyncForm) -> None:
        self._expert = expert
        self._form = form

    def __call__(self, made: Tensor, batch: Batch) -> Tensor:
        """See :class:`SyncLoss`; the batch must have its context."""
        context = batch.context
        if context is None or batch.spoken is None:
            raise ValueError("the lip expert needs the clips around the samples")
        own = context.starts[:, None] + torch.arange(
            len(made) // len(context.starts), device=made.device
        )  # (B, k), places within T
        padding = (
            torch.arange(context.frames.shape[1], device=made.device) >= (context.lengths[:, None])
        )  # (B, T)
        true, generated = self._regions(made, context, own, padding)
        with torch.no_grad():
            seen = self._expert.watch(true[:, None])  # (B, T, D)
            heard = None if self._form == "visual" else self._expert.hear(context.sound)
        watched = self._insert(seen, true, generated, context)

        beyond = padding if bool(padding.any()) else None
        both = heard if self._form == "multimodal" else None
        ours = self._expert.fuse(both, watched, beyond)
        with torch.no_grad():
            if self._form == "unsupervised":
                theirs = self._expert.fuse(heard, None, beyond)
            else:
                theirs = self._expert.fuse(both, seen, beyond)
        loss = minus_log(_mean_cosine(_at(ours, own), _at(theirs, own)))  # (B,)
        if self._form != "visual":
            loss = loss * batch.spoken
        return loss.mean()

    @staticmethod
    def _regions(
        made: Tensor, context: Context, own: Tensor, padding: Tensor
    ) -> tuple[Tensor, Tensor]:
        """True mouth regions (B, T, 88, 88), 0 after a clip's end, and generated (B, k, 88, 88)."""
        matrices = mouth_matrices(context.points, context.lengths)  # (B, T, 2, 3)
        count, span = matrices.shape[:2]
        with torch.no_grad():
            true = cut_mouths(context.frames.flatten(0, 1), matrices.flatten(0, 1))
            true = true.reshape(count, span, *true.shape[1:])
            true = true.masked_fill(padding[..., None, None], 0.0)
        chosen = _at(matrices, own.cpu()).flatten(0, 1)
        return true, cut_mouths(made, chosen).reshape(count, -1, *true.shape[2:])

    def _insert(self, seen: Tensor, true: Tensor, generated: Tensor, context: Context) -> Tensor:
        """Lips of the whole clip (B, T, D) with the generated frames in it.

        Only what these change is computed again: the network's first convolution spans five
        frames, and all else in it is done frame by frame.
        """
        k, span = generated.shape[1], seen.shape[1]
        first, end = context.starts[:, None], context.lengths[:, None]
        near = first + torch.arange(-2 * AROUND, k + 2 * AROUND, device=seen.device)
        within = (near >= 0) & (near < end)
        window = _at(true, near.clamp(0, span - 1)) * within[..., None, None]
        window = torch.cat(
            [window[:, : 2 * AROUND], generated, window[:, -2 * AROUND :]], dim=1
        )  # (B, k + 8, 88, 88)
        again = self._expert.watch(window[:, None])[:, AROUND:-AROUND]  # (B, k + 4, D)
        # What lies before the clip or behind it lands in the margin, which is cut off.
        places = first + torch.arange(k + 2 * AROUND, device=seen.device)
        margin = F.pad(seen, (0, 0, AROUND, AROUND))
        index = places[..., None].expand(-1, -1, seen.shape[-1])
        return margin.scatter(1, index, again.to(seen.dtype))[:, AROUND:-AROUND]


class FaceVoiceNetwork(Protocol):
    """What the ``syncnet`` form asks of its network, such as Wav2Lip's lip expert."""

    def hear(self, mel: Tensor) -> Tensor:
        """Embed mel windows (B, 1, 80, 16), at length 1."""

    def watch(self, faces: Tensor) -> Tensor:
        """Embed mouths (B, 15, 48, 96), at length 1."""


def colour_mouths(crops: Tensor, mesh: Tensor, samples: int) -> Tensor:
    """What the ``syncnet`` form's network sees of upright crops.

    Args:
        crops: (B·k, 3, S, S), RGB in [0, 1].
        mesh: (B·k, 468, 2) in their pixels.
        samples: B.

    Returns:
        (B, 3·k, 48, 96), BGR in [0, 1].
    """
    mouths = read(crops.flip(1), box_matrices(mesh), SIDE - MASKED_FROM, SIDE)
    return mouths.reshape(samples, -1, *mouths.shape[2:])


class ColourSync:
    """The ``syncnet`` form: binary cross-entropy of the cosine against 1, which is its −log.

    The network has learnt from the crops of a face detector; here the box of the mesh stands in,
    cut out of the upright crop.

    Args:
        network: frozen and in ``eval``, on the device of the pictures.
    """

    def __init__(self, network: FaceVoiceNetwork) -> None:
        self._network = network

    def __call__(self, made: Tensor, batch: Batch) -> Tensor:
        """See :class:`SyncLoss`; the batch must have its ``heard``."""
        if batch.heard is None or batch.spoken is None:
            raise ValueError("the lip expert needs the sound from the first frame on")
        faces = colour_mouths(made, batch.mesh, len(batch.heard))
        with torch.no_grad():
            heard = self._network.hear(batch.heard)
        cosine = (heard * self._network.watch(faces)).sum(dim=1)
        return (minus_log(cosine) * batch.spoken).mean()


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Rows of (B, T, …) at places (B, n): (B, n, …)."""
    return values[torch.arange(len(values), device=values.device)[:, None], places]


def _mean_cosine(a: Tensor, b: Tensor) -> Tensor:
    """The mean of the frames' cosines: (B, k, D) twice to (B,), in float32 at least."""
    kind = torch.promote_types(a.dtype, torch.float32)
    return F.cosine_similarity(a.to(kind), b.to(kind), dim=-1).mean(dim=1)
