"""The audio encoder's own lesson: hear the shape of the mouth.

    python -m training pretrain PREPARED -o RUN1
    python -m training pretrain PREPARED -o RUN2 --start RUN1/audio.pt

The encoder learns to regress, from one mel window, the principal components of the speaker's lips
and jaw and the opening of the mouth. Synthetic speech of many voices and languages, whose opening
its phoneme times imply, teaches it to hear other speakers than those in the clips; so do the clips
themselves, spoken again by other voices.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from engine.errors import ConfigError
from engine.lips import correlation, mouth_opening
from engine.mel import SAMPLE_RATE, WindowPlacement, cut_windows, log_mel
from engine.phonemes import opening_of
from training.audio_encoder import EMBEDDING, AudioEncoder
from training.averages import update_average
from training.checkpoint import load_checkpoint, save_checkpoint
from training.clips import FPS, Clip, find_clips, is_held_out, read_clip
from training.mel_augment import NEAR, MelAugment
from training.mouth_shape import ShapeBasis, speech_motion
from training.synthesis import corpus
from training.voices import Voice, change_voice


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """One run of the audio encoder.

    Attributes:
        audio_width: factor on the encoder's channels.
        placement: where a frame's mel window lies.
        components: numbers that describe a mouth's shape.
        speakers: speakers to learn from; none means all.
        synthetic: utterances of synthetic speech; 0 needs no espeak-ng.
        synthetic_share: of a batch.
        voices: other voices that each clip is spoken with as well; above 0 it needs pyworld.
        voices_share: of the clips' windows, those that another voice speaks.
        steps, batch, learning_rate, weight_decay: of Adam, with warm-up and cosine decay.
        average: decay of the running average of the weights, which is what is kept.
        augment: how the windows are changed.
        start: checkpoint of an earlier run to go on from, as its second lesson.
        bf16: whether the encoder learns in bfloat16, where the processor is quick at it.
        seed: of weights and order.
        threads: of torch.
    """

    audio_width: float = 0.5
    placement: WindowPlacement = field(default_factory=lambda: WindowPlacement(-0.1))
    components: int = 12
    speakers: tuple[str, ...] = ()
    synthetic: int = 300
    synthetic_share: float = 0.35
    voices: int = 0
    voices_share: float = 0.35
    steps: int = 2000
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    average: float = 0.997
    augment: MelAugment = field(default_factory=MelAugment)
    start: Path | None = None
    bf16: bool = False
    seed: int = 0
    threads: int = 1


def second_lesson(config: PretrainConfig, start: Path) -> PretrainConfig:
    """A lesson after the first: gentler, and on sound near the clips' own.

    Args:
        config: the first lesson.
        start: its checkpoint.
    """
    return replace(
        config,
        start=start,
        augment=NEAR,
        steps=1600,
        batch=224,
        learning_rate=7e-4,
        weight_decay=0.03,
        synthetic_share=0.2,
        seed=config.seed + 1,
    )


@dataclass(frozen=True, slots=True)
class _Heard:
    """Windows with what the mouth does in their middle."""

    mel: Tensor  # (n, 1, 80, columns)
    shape: Tensor  # (n, c)
    opening: Tensor  # (n,)
    others: tuple[Tensor, ...] = ()  # the same windows by other voices


class ShapeHeads(nn.Module):
    """What is read off an embedding during the lesson; thrown away after it."""

    def __init__(self, components: int) -> None:
        super().__init__()
        self.shape = nn.Linear(EMBEDDING, components)
        self.opening = nn.Linear(EMBEDDING, 1)
        self.implied = nn.Linear(EMBEDDING, 1)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 512) → shape (B, c), opening (B,), opening that phonemes imply (B,)."""
        opening, implied = self.opening(embedding), self.implied(embedding)
        return self.shape(embedding), opening.squeeze(1), implied.squeeze(1)


def frame_windows(
    samples: NDArray[np.float32], frames: int, placement: WindowPlacement
) -> NDArray[np.float32]:
    """The mel windows of a clip's frames, float32 (frames, 1, 80, columns)."""
    columns = [placement.first_column(i / FPS) for i in range(frames)]
    return cut_windows(log_mel(samples), columns, placement.columns)


def _load(root: Path, config: PretrainConfig) -> tuple[list[tuple[str, bool, int]], _Heard]:
    """All clips' windows in one, with (name, held out, frames) of each clip in order."""
    clips = [read_clip(folder) for folder in find_clips(root)]
    if config.speakers:
        clips = [c for c in clips if c.info.speaker in config.speakers]
    names = [(c.info.name, is_held_out(c.info.name), c.info.frames) for c in clips]
    motions = [speech_motion(c.mesh[: c.info.frames]) for c in clips]
    learnt = [m for m, (_, held_out, _) in zip(motions, names, strict=True) if not held_out]
    frames = sum(map(len, learnt))
    if frames < config.batch:
        raise ConfigError(
            f"{root} holds {frames} frames to learn from, but a batch alone is {config.batch}:"
            " prepare more clips, or name other speakers."
        )
    basis = ShapeBasis.fit(np.concatenate(learnt), config.components)
    mel = [frame_windows(c.samples(), c.info.frames, config.placement) for c in clips]
    opening = [[mouth_opening(m) for m in c.mesh.astype(np.float32)] for c in clips]
    chance = np.random.default_rng(config.seed)
    others = [
        np.concatenate(
            [_by_another(c, own, config, chance) for c, own in zip(clips, mel, strict=True)]
        )
        for _ in range(config.voices)
    ]
    return names, _Heard(
        torch.from_numpy(np.concatenate(mel)),
        torch.from_numpy(np.concatenate([basis.encode(m) for m in motions])),
        torch.tensor([o for row in opening for o in row], dtype=torch.float32),
        tuple(torch.from_numpy(windows) for windows in others),
    )


def _by_another(
    clip: Clip, own: NDArray[np.float32], config: PretrainConfig, chance: np.random.Generator
) -> NDArray[np.float32]:
    """The windows of a clip in another voice; one that nobody learns from keeps its own."""
    if is_held_out(clip.info.name):
        return own
    changed = change_voice(clip.samples(), Voice.draw(chance))
    return frame_windows(changed, clip.info.frames, config.placement)


def _synthetic(config: PretrainConfig) -> _Heard:
    mel, opening = [], []
    for samples, spans in corpus(config.seed, config.synthetic):
        frames = int(len(samples) * FPS / SAMPLE_RATE)
        mel.append(frame_windows(samples, frames, config.placement))
        # The middle of a frame's exposure is half a frame after its time.
        opening.append(opening_of(spans, (np.arange(frames) + 0.5) / FPS))
    empty = torch.zeros(0)
    return _Heard(
        torch.from_numpy(np.concatenate(mel)), empty, torch.from_numpy(np.concatenate(opening))
    )


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        order = torch.randperm(count, generator=generator)
        yield from torch.split(order[: count - count % size], size)


def _windows(seen: _Heard, rows: Tensor, share: float, chance: torch.Generator) -> Tensor:
    """Windows of some frames, a share of them by other voices where there are any."""
    mel = seen.mel[rows]
    if seen.others:
        by = torch.randint(len(seen.others), (len(rows),), generator=chance)
        by[torch.rand(len(rows), generator=chance) >= share] = -1  # the clip's own
        for number, windows in enumerate(seen.others):
            mel[by == number] = windows[rows[by == number]]
    return mel


def _clip_correlations(
    encoder: nn.Module,
    heads: nn.Module,
    data: _Heard,
    names: list[tuple[str, bool, int]],
    *,
    held_out: bool,
) -> list[float]:
    """Correlation of heard and seen opening in each held-out (or every learnt) clip."""
    result, start = [], 0
    with torch.inference_mode():
        for _, clip_held_out, frames in names:
            rows = slice(start, start + frames)
            start += frames
            if clip_held_out == held_out:
                heard = heads(encoder(data.mel[rows]))[1]
                result.append(correlation(heard.numpy(), data.opening[rows].numpy()))
    return result


def pretrain(root: Path, run: Path, config: PretrainConfig) -> Path:
    """Teach an audio encoder.

    Args:
        root: prepared clips.
        run: folder of the run: ``audio.pt``, TensorBoard events.
        config: the run.

    Returns:
        The checkpoint's path.

    Raises:
        ConfigError: no clips, or espeak-ng or pyworld is missing although speech of theirs is
            asked for, or the lesson to start from has another form.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    chance = torch.Generator().manual_seed(config.seed)
    names, seen = _load(root, config)
    flags = np.repeat([held for _, held, _ in names], [frames for _, _, frames in names])
    learnt = torch.from_numpy(np.flatnonzero(~flags))
    spoken = _synthetic(config) if config.synthetic else None
    n_spoken = int(config.batch * config.synthetic_share) if spoken else 0
    n_seen = config.batch - n_spoken

    encoder = AudioEncoder(config.audio_width, config.placement.columns)
    heads = ShapeHeads(config.components)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=config.steps, pct_start=0.1
    )
    augment = config.augment
    if config.start:
        _go_on_from(config.start, encoder, heads)
    whole = nn.ModuleDict({"encoder": encoder, "heads": heads})
    average = {name: value.detach().clone() for name, value in whole.state_dict().items()}
    kept = copy.deepcopy(whole).eval()
    seen_rows = _batches(len(learnt), n_seen, chance)
    spoken_rows = _batches(len(spoken.mel), n_spoken, chance) if spoken else None
    spread = seen.opening[learnt].std()
    middle = seen.opening[learnt].mean()
    log = SummaryWriter(str(run))
    started = time.monotonic()
    for step in range(1, config.steps + 1):
        rows = learnt[next(seen_rows)]
        mel = _windows(seen, rows, config.voices_share, chance)
        if spoken and spoken_rows:
            picked = next(spoken_rows)
            mel = torch.cat([mel, spoken.mel[picked]])
        heard = augment(mel, chance)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            embedding = encoder(heard)
        shape, opening, implied = heads(embedding.float())
        wanted = (seen.opening[rows] - middle) / spread
        loss = F.smooth_l1_loss(shape[:n_seen], seen.shape[rows])
        loss = loss + 0.3 * F.smooth_l1_loss(opening[:n_seen], wanted)
        if spoken:
            loss = loss + F.smooth_l1_loss(4 * implied[n_seen:], 4 * spoken.opening[picked])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        update_average(average, whole, step, config.average)
        if step % 250 == 0 or step == config.steps:
            kept.load_state_dict(average)
            found = _clip_correlations(kept["encoder"], kept["heads"], seen, names, held_out=True)
            r = float(np.mean(found)) if found else math.nan
            log.add_scalar("loss", loss.item(), step)
            log.add_scalar("held_out_correlation", r, step)
            minutes = (time.monotonic() - started) / 60
            terms = f"loss {loss.item():.4f}  held-out r {r:.3f}  {minutes:.1f} min"
            sys.stdout.write(f"step {step}  {terms}\n")
            sys.stdout.flush()
    log.close()
    path = run / "audio.pt"
    save_checkpoint(
        path,
        kind="audio",
        config={"width": config.audio_width, "columns": config.placement.columns},
        model=kept["encoder"].state_dict(),
        placement=config.placement.to_dict(),
        training={"pretrain": _plain(config), "heads": kept["heads"].state_dict()},
    )
    return path


def _go_on_from(path: Path, encoder: AudioEncoder, heads: ShapeHeads) -> None:
    start = load_checkpoint(path)
    try:
        # One that learnt with fewer columns has no branch for the past: that starts at nothing.
        encoder.load_state_dict({**encoder.state_dict(), **start.model})
        heads.load_state_dict(start.training["heads"])
    except (KeyError, RuntimeError) as error:
        raise ConfigError(
            f"{path} holds no lesson that this one can go on from: its encoder has another form,"
            " such as another width or more mel columns. Start from one of the same --run."
        ) from error


def _plain(config: PretrainConfig) -> dict[str, object]:
    return asdict(config) | {
        "placement": config.placement.to_dict(),
        "speakers": list(config.speakers),
        "start": str(config.start or ""),
    }
