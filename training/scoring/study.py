"""How steady the judges of lip sync are: the paper's figures 1 and 5.

True videos are judged while their face is displaced in what the judge looks at, or their sound in
time. Nothing about the lips' fit changes with a displaced face, so a good judge says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import ConfigError, MediaError
from engine.filterbank import ROW_SAMPLES
from engine.lip_expert import Expert
from engine.lip_sync import frame_cosines
from engine.mel import COLUMNS_PER_S, cut_windows, log_mel
from training.clips import FPS
from training.expert_evaluation import late
from training.scoring.film import STILL, Film, Moved, sound_of, watch
from training.scoring.intervals import SEED, Estimate, mean_of
from training.scoring.judges import Embedded, Judges
from training.scoring.systems import named_videos
from training.sync_objective import minus_log
from training.syncnet import (
    WINDOW_FRAMES,
    SyncNet,
    distances,
    hear_clip,
    scores,
    watch_clip,
)
from training.wav2lip import MASKED_FROM, SyncNetColour

Kind = Literal["stability", "shift", "rotation", "scale", "delay"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

AMOUNTS: Final[Mapping[Kind, tuple[float, ...]]] = {
    "stability": (0,),
    "shift": tuple(range(-12, 13, 2)),
    "rotation": tuple(range(-20, 21, 4)),
    "scale": (0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2),
    "delay": tuple(range(-10, 11)),
}
UNITS: Final[Mapping[Kind, str]] = {
    "stability": "",
    "shift": "px of the 96 crop, + to the right",
    "rotation": "degrees, + clockwise",
    "scale": "times as large",
    "delay": "frames, + sound late",
}

Values = dict[str, NDArray[np.float64]]
"""By quantity: one value a frame (``cosine``, ``loss``, ``AVSm``, ``AVSv``) or one a clip (LSE)."""
Hears = Callable[[NDArray[np.float32]], Values]
"""What a judge that has seen a clip says of it with a sound."""
Sees = Callable[[Film, Moved], Hears]
"""A judge: it looks at a clip whose face is displaced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One clip in the eyes of one judge, frame by frame, with nothing displaced.

    Attributes:
        judge: who.
        quantity: what.
        clip: which.
        values: one a frame.
    """

    judge: str
    quantity: str
    clip: str
    values: list[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What a judge says of all clips under one displacement.

    Attributes:
        judge: who.
        quantity: what.
        amount: of the displacement.
        estimate: mean over the clips.
    """

    judge: str
    quantity: str
    amount: float
    estimate: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """One study.

    Attributes:
        kind: which.
        truth: name of the folder of true videos.
        names: of the judges, with their hashes.
        points: means over clips.
        curves: of single clips; of ``stability`` alone.
        left_out: what could not be judged, and why.
    """

    kind: Kind
    truth: str
    names: dict[str, str]
    points: list[Point]
    curves: list[Curve]
    left_out: dict[str, str]


def run_study(
    kind: Kind,
    truth: Path,
    judges: Judges,
    *,
    generated: Path | None = None,
    clips: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Judge true videos under displacements.

    Args:
        kind: what is displaced.
        truth: folder of true videos.
        judges: who is asked.
        generated: a system's videos of the same names: with them a lip expert also gives AVSm
            and AVSv, the generated face displaced and the true one not.
        clips: how many are taken at most, drawn evenly by name; all by default.
        progress: called with the clips done and all clips after each one.

    Raises:
        ConfigError: there is no judge of lip sync, or no video has sound and a face.
        MediaError: a folder holds no videos.
    """
    who = _judges(judges)
    if not who:
        raise ConfigError("A study needs a judge: give a bundle with a lip expert, or weights.")
    videos = named_videos(truth)
    made = {} if generated is None else named_videos(generated)
    names = [name for name in videos if not made or name in made]
    if clips is not None and clips < len(names):
        names = [names[i] for i in np.linspace(0, len(names) - 1, clips).round().astype(int)]
    found: dict[tuple[str, str, float], list[float]] = {}
    curves, left_out = [], {}
    for done, name in enumerate(names, 1):
        try:
            film, sound = watch(videos[name]), sound_of(videos[name])
            if sound is None:
                raise MediaError(f"{videos[name].name} has no sound.")
            pair = watch(made[name]) if name in made else None
        except MediaError as error:
            left_out[name] = str(error)
            continue
        asked = dict(who)
        if pair is not None:
            asked |= {e.name: _beside(e, film, pair) for e in judges.experts}
        for judge, sees in asked.items():
            for amount, values in _under(kind, sees, film, sound):
                for quantity, each in values.items():
                    found.setdefault((judge, quantity, amount), []).append(float(each.mean()))
                    if kind == "stability" and len(each) > 1:
                        curves.append(
                            Curve(judge=judge, quantity=quantity, clip=name, values=each.tolist())
                        )
        if progress is not None:
            progress(done, len(names))
    if not found:
        raise ConfigError(f"No video of {truth} has sound and a face; name others.")
    points = [
        Point(judge=judge, quantity=quantity, amount=amount, estimate=mean_of(means, seed=SEED))
        for (judge, quantity, amount), means in found.items()
    ]
    return Study(
        kind=kind,
        truth=truth.resolve().name,
        names=judges.names,
        points=points,
        curves=curves,
        left_out=left_out,
    )


def _under(
    kind: Kind, sees: Sees, film: Film, sound: NDArray[np.float32]
) -> list[tuple[float, Values]]:
    if kind in ("stability", "delay"):
        hears = sees(film, STILL)
        return [(by, hears(late(sound, int(by) * ROW_SAMPLES))) for by in AMOUNTS[kind]]
    moves = {
        "shift": lambda by: Moved(right=by),
        "rotation": lambda by: Moved(turn=by),
        "scale": lambda by: Moved(scale=by),
    }
    return [(by, sees(film, moves[kind](by))(sound)) for by in AMOUNTS[kind]]


def _judges(judges: Judges) -> dict[str, Sees]:
    found = {expert.name: _lip_expert(expert) for expert in judges.experts}
    if judges.colour is not None:
        found["SyncNet on colours"] = _colour(judges.colour)
    if judges.syncnet is not None:
        found["SyncNet v2"] = _syncnet(judges.syncnet)
    return found


def _with_loss(cosines: NDArray[np.float32]) -> Values:
    """Cosines and the lip-sync loss that training takes of them."""
    loss = minus_log(torch.from_numpy(cosines.astype(np.float64))).numpy()
    return {"cosine": cosines.astype(np.float64), "loss": loss}


def _lip_expert(expert: Expert) -> Sees:
    """AVSu of each frame."""

    def see(film: Film, moved: Moved) -> Hears:
        lips = Embedded(expert, expert.embed_regions(film.regions(moved)))

        def hear(sound: NDArray[np.float32]) -> Values:
            alone = lips.alone(sound)
            return _with_loss(frame_cosines(alone.lips, alone.sound))

        return hear

    return see


def _beside(expert: Expert, true: Film, made: Film) -> Sees:
    """AVSu of the true lips, AVSm and AVSv of generated ones, of which the latter are displaced."""
    regions = expert.embed_regions(true.regions())

    def see(film: Film, moved: Moved) -> Hears:
        unsupervised = _lip_expert(expert)(film, moved)
        lips = Embedded(expert, expert.embed_regions(made.regions(moved)))
        frames = min(len(lips.watched), len(regions))
        lips, real = lips.cut(frames), Embedded(expert, regions[:frames])

        def hear(sound: NDArray[np.float32]) -> Values:
            both = frame_cosines(lips.together(sound), real.together(sound))
            alone = frame_cosines(lips.alone(sound).lips, real.alone(sound).lips)
            more = {"AVSm": both.astype(np.float64), "AVSv": alone.astype(np.float64)}
            return {**unsupervised(sound), **more}

        return hear

    return see


def _colour(network: SyncNetColour) -> Sees:
    """The cosine of each window of five frames."""

    def see(film: Film, moved: Moved) -> Hears:
        frames = torch.from_numpy(film.boxes_bgr(moved)[:, MASKED_FROM:]).permute(0, 3, 1, 2) / 255
        windows = frames.unfold(0, WINDOW_FRAMES, 1).permute(0, 4, 1, 2, 3).flatten(1, 2)
        with torch.no_grad():
            watched = network.watch(windows.contiguous())  # (n, 15, 48, 96) → (n, 512)

        def hear(sound: NDArray[np.float32]) -> Values:
            columns = [i * COLUMNS_PER_S // FPS for i in range(len(watched))]
            mels = torch.from_numpy(cut_windows(log_mel(sound), columns))
            with torch.no_grad():
                heard = network.hear(mels)
            return _with_loss((heard * watched).sum(dim=1).numpy())

        return hear

    return see


def _syncnet(network: SyncNet) -> Sees:
    """LSE-C and LSE-D, one each of a clip."""

    def see(film: Film, moved: Moved) -> Hears:
        watched = watch_clip(network, film.syncnet_frames(moved))

        def hear(sound: NDArray[np.float32]) -> Values:
            heard = hear_clip(network, sound)
            count = min(len(watched), len(heard))
            found = scores(distances(watched[:count], heard[:count]))
            return {"LSE-C": np.array([found.lse_c]), "LSE-D": np.array([found.lse_d])}

        return hear

    return see
