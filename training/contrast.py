"""Give what is painted between the lips the contrast of real mouths.

    python -m training contrast GENERATOR.pt PREPARED -o SHARPENED.pt

Where teeth end and the dark begins can't be heard, so a generator paints the mean of what may be
there: of the right colour, but so flat that an open mouth reads as lips. How flat is measured on
clips that were learnt from, and the brightness between the lips is spread around its mean in a clip
by as much. A head of one convolution knows no such mean, but the maps that it reads tell what
differs within a clip from what differs between faces. So the wider spread is regressed on these
maps, all clips counting alike, and becomes part of the head in closed form: same form, same cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.mel import WindowPlacement
from training.animate import closed_frame
from training.calibrate import CONTROL_SHARE
from training.checkpoint import load_checkpoint, save_corrected
from training.clips import Clip, find_clips, is_held_out, read_clip
from training.generator import Generator, mask_pose
from training.lip_places import carried_inside, inside_lips, opened, painted_mesh, painted_rim
from training.painter import build_model
from training.pretrain import frame_windows

_PAINT: Final = slice(3, 6)  # channels of a warp head: flow x, y, mask, paint RGB
_BETWEEN: Final = 0.6  # share of a pixel between open lips from which on it counts
_LEAST_PIXELS: Final = 100  # of a clip: fewer have no spread worth the name
_LEAST_CLIPS: Final = 3
_LEAST_SPREAD: Final = 0.02  # of a paint's brightness, in logits
_RIDGE: Final = 1e-4  # of each map's own power
_DARKEST: Final = 0.02  # share of full brightness whose logit is taken for all below it


@dataclass(frozen=True, slots=True)
class Inside:
    """The pixels between the lips of one clip.

    Attributes:
        maps: float64 (n, 32), what the head reads.
        brightness: float64 (n,), mean logit of the true RGB, carried to where the lips are painted.
    """

    maps: Tensor
    brightness: Tensor


@dataclass(frozen=True, slots=True)
class Contrast:
    """How the painted brightness spreads within a clip, over how the true one does.

    Attributes:
        clips: clips that the head was fitted to.
        control: clips that it was not fitted to.
        before, after: the ratio on these.
    """

    clips: int
    control: int
    before: float
    after: float


def sharpen(head: nn.Conv2d, seen: Sequence[Inside]) -> None:
    """Spread the brightness of a warp head's paint as the true one spreads within a clip.

    Raises:
        ConfigError: the paint is all one brightness.
    """
    gain = 1 / _ratio(head, seen)
    size = seen[0].maps.shape[1] + 1
    products, wanted = torch.zeros(size, size).double(), torch.zeros(size).double()
    for inside in seen:
        painted = _painted(head, inside)
        rows = torch.cat((inside.maps, torch.ones_like(painted)[:, None]), dim=1)
        products += rows.T @ rows / len(rows)
        wanted += rows.T @ ((gain - 1) * (painted - painted.mean())) / len(rows)
    products += _RIDGE * torch.diag(products.diag())
    more = torch.linalg.lstsq(products, wanted, driver="gelsd").solution  # some maps are all 0
    with torch.no_grad():
        head.weight[_PAINT, :, 0, 0] += more[:-1].to(head.weight.dtype)
        head.bias[_PAINT] += more[-1].to(head.weight.dtype)  # type: ignore[index]


def contrast(
    checkpoint: Path,
    clips: Path,
    out: Path,
    *,
    clips_each: int,
    seed: int = 0,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Contrast:
    """Write a generator's checkpoint that paints mouths with the contrast of real ones.

    Args:
        checkpoint: of a generator with a warp head; its facts are kept, what it takes to go on with
            its run is not.
        clips: prepared clips that it learnt from; held-out ones are not taken.
        out: file to write.
        clips_each: clips to paint of each speaker, at most.
        seed: which ones are drawn, and which speakers tell what it brought.
        threads: of torch.
        progress: called with the clips that are painted and all there are after each of them.

    Raises:
        ConfigError: the generator has another head or paints no contrast at all, or there are too
            few clips with an open mouth.
    """
    torch.set_num_threads(threads)
    read = load_checkpoint(checkpoint)
    model = build_model(read)
    if model.config.head != "warp":
        raise ConfigError(
            f"{checkpoint} paints whole faces, not the inside of a mouth alone: only a generator"
            " with a warp head has a contrast to set."
        )
    placement = WindowPlacement.from_dict(read.placement)
    drawn, seen = _draw(clips, clips_each, seed), []
    for done, clip in enumerate(drawn, start=1):
        inside = look(model, clip, placement)
        if len(inside.maps) >= _LEAST_PIXELS:
            seen.append(inside)
        if progress is not None:
            progress(done, len(drawn))
    if len(seen) < _LEAST_CLIPS:
        raise ConfigError(
            f"{clips} holds {len(seen)} clips with an open mouth, without those that are held out,"
            f" but at least {_LEAST_CLIPS} are needed: prepare more videos."
        )
    kept = len(seen) - max(1, round(CONTROL_SHARE * len(seen)))
    before = _ratio(model.head, seen[kept:])
    sharpen(model.head, seen[:kept])
    result = Contrast(kept, len(seen) - kept, before, _ratio(model.head, seen[kept:]))
    save_corrected(out, read, model.state_dict(), {"contrast": asdict(result)})
    return result


@torch.inference_mode()
def look(model: Generator, clip: Clip, placement: WindowPlacement) -> Inside:
    """Paint a clip with its own voice and most shut frame, and find what lies between the lips.

    Args:
        model: with a warp head.
        clip: any.
        placement: of the model's mel windows.
    """
    frames = torch.from_numpy(np.array(clip.crops)).permute(0, 3, 1, 2).float() / 255
    mesh = torch.from_numpy(clip.mesh[..., :2].astype(np.float32))
    shut = closed_frame(clip)
    identity = frames[shut : shut + 1]
    mel = torch.from_numpy(frame_windows(clip.samples(), len(frames), placement))
    read: list[Tensor] = []
    watching = model.head.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    try:
        output = model(
            mel,
            mask_pose(frames, model.config.masked_from),
            identity.expand_as(frames),
            [m.expand(len(frames), -1, -1, -1) for m in model.encode_identity(identity)],
        )
    finally:
        watching.remove()
    assert output.flow is not None
    place = model.config.rows, model.config.resolution
    rim = painted_rim(output.flow, mesh, mesh[shut : shut + 1].expand_as(mesh), *place)
    painted = painted_mesh(rim, mesh)
    share = inside_lips(painted, *place) * opened(mesh, place[1])[:, None, None, None]
    between = share[:, 0] > _BETWEEN
    colours = carried_inside(frames, mesh, painted, *place).permute(0, 2, 3, 1)[between]
    logits = torch.logit(colours.double().clamp(_DARKEST, 1 - _DARKEST))
    return Inside(read[0].permute(0, 2, 3, 1)[between].double(), logits.mean(dim=1))


def _painted(head: nn.Conv2d, inside: Inside) -> Tensor:
    """Mean logit of the painted RGB, float64 (n,)."""
    assert head.bias is not None
    weight, bias = (v.detach()[_PAINT].double().mean(dim=0) for v in (head.weight, head.bias))
    return inside.maps @ weight.flatten() + bias


def _ratio(head: nn.Conv2d, seen: Sequence[Inside]) -> float:
    """The painted spread within a clip over the true one.

    Raises:
        ConfigError: the paint is all one brightness.
    """
    painted = torch.stack([_painted(head, inside).var() for inside in seen]).mean().sqrt()
    true = torch.stack([inside.brightness.var() for inside in seen]).mean().sqrt()
    if painted < _LEAST_SPREAD:
        raise ConfigError(
            "What is painted between the lips is all one brightness yet, so there is no contrast to"
            " set: train the generator longer."
        )
    return float(painted / true)


def _draw(root: Path, clips_each: int, seed: int) -> list[Clip]:
    """Some clips of each speaker that may be learnt from, speaker by speaker, in chance order."""
    chance = np.random.default_rng(seed)
    speakers: defaultdict[str, list[Clip]] = defaultdict(list)
    for clip in (read_clip(folder) for folder in find_clips(root) if not is_held_out(folder.name)):
        speakers[clip.info.speaker].append(clip)
    names = chance.permutation(sorted(speakers))
    return [
        speakers[name][index]
        for name in names
        for index in chance.permutation(len(speakers[name]))[:clips_each]
    ]
