"""Make the painted mouth open as the audio encoder hears it.

    python -m training calibrate RUN/generator.pt SPEAKER_VIDEOS --audio AUDIO.pt -o CALIBRATED.pt

Thousands of steps of a few samples teach a generator to open the mouth along some direction of the
audio embedding, but not quite along the one in which the opening is heard: that was fitted to every
frame of every clip. So it is set right in closed form. The mouth is painted for clips that were
learnt from and measured by the face mesh, both openings are regressed on the embedding, and what
the painted one lacks is added along the direction in which embeddings move as a mouth opens. The
change is linear in the embedding, so it becomes part of the decoder's first convolution, and the
network keeps its form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.errors import ConfigError, MediaError
from engine.lips import correlation
from engine.media import read_audio
from engine.mel import SAMPLE_RATE, WindowPlacement
from training.audio_encoder import EMBEDDING, AudioEncoder
from training.bench import Bench
from training.checkpoint import load_checkpoint, save_corrected
from training.clips import is_held_out
from training.generator import Generator
from training.painter import TorchPainter, build_model
from training.prepare import find_videos
from training.pretrain import frame_windows

CONTROL_SHARE: Final = 0.2
"""Pairs that the correction is not fitted to and that tell what it brought."""

_LEAST_PAIRS: Final = 3
_RIDGE: Final = 1e-2  # of the embedding's mean variance: it keeps a direction from following noise
_EXACT_RIDGE: Final = 1e-4  # for what is linear in the embedding but for its offset
_LEAST_MOTION: Final = 0.005  # standard deviation of the painted opening, in inter-ocular distances

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Painted:
    """One face with one voice, frame by frame.

    Attributes:
        embedding: float64 (n, 512), of the voice.
        heard: float64 (n,), the opening that is read off the embedding, in any unit.
        painted: float64 (n,), the opening that the mesh sees.
    """

    embedding: Floats
    heard: Floats
    painted: Floats


@dataclass(frozen=True, slots=True)
class Correction:
    """An embedding e is taken as e + along · (by · e).

    Attributes:
        along: float64 (512,), how embeddings move as a mouth opens.
        by: float64 (512,); at silence it gives 0.
    """

    along: Floats
    by: Floats


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well the painted opening followed the heard one on the control pairs.

    Attributes:
        pairs: pairs that the correction was fitted to.
        control: pairs that it was not fitted to.
        before, after: mean correlation of heard and painted opening there.
    """

    pairs: int
    control: int
    before: float
    after: float


def correct(painted: Sequence[Painted], rest: Floats) -> Correction:
    """What makes the painted opening follow the heard one, for a mouth that moves linearly.

    Args:
        painted: faces with voices.
        rest: float64 (512,), the embedding of silence, which is to stay as it is.

    Raises:
        ConfigError: the painted mouth hardly moves, or not with what is heard.
    """
    embedding = np.concatenate([p.embedding for p in painted])
    heard = np.concatenate([p.heard for p in painted])
    seen = np.concatenate([p.painted for p in painted])
    centred = embedding - embedding.mean(axis=0)
    follows = _ridge(centred, seen - seen.mean(), _RIDGE)
    opening = heard - heard.mean()
    along = centred.T @ opening / (opening @ opening)
    gain = float(follows @ along)  # of the painted opening, for one unit of the heard one
    if seen.std() < _LEAST_MOTION or not gain > 0:
        raise ConfigError(
            "The painted mouth hardly moves with the sound yet, so there is nothing to calibrate:"
            " train the generator longer."
        )
    lacking = opening - centred @ follows / gain
    # Without an offset: a convolution's bias is the same in all places, and what an embedding adds
    # is not. Silence lacks nothing.
    silence = np.repeat(rest[None], max(1, len(embedding) // 4), axis=0)
    rows = np.concatenate([embedding, silence])
    by = _ridge(rows, np.concatenate([lacking, np.zeros(len(silence))]), _EXACT_RIDGE)
    return Correction(along, by)


def apply(model: Generator, correction: Correction) -> None:
    """Let a generator take every embedding e as e + along · (by · e), for good."""
    upward = model.decoder[0][0].conv_block[0]  # type: ignore[index]
    assert isinstance(upward, nn.ConvTranspose2d)
    along, by = (torch.from_numpy(v) for v in (correction.along, correction.by))
    with torch.no_grad():
        heard = upward.weight[-EMBEDDING:]  # the faces' channels come before the embedding's
        moved = torch.einsum("i,iokl->okl", along, heard.double())
        heard += torch.einsum("i,okl->iokl", by, moved).to(heard.dtype)


def calibrate(
    checkpoint: Path,
    audio: Path,
    videos: Path,
    out: Path,
    *,
    pairs: int,
    seed: int = 0,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Write a generator's checkpoint whose painted mouth opens as its audio encoder hears it.

    Args:
        checkpoint: of the generator; its facts are kept, what it takes to go on with its run is
            not.
        audio: checkpoint of the lesson that its audio encoder comes from, which says how the
            opening is read off an embedding.
        videos: folder of the videos of one person whom it learnt from; held-out ones are not taken.
        out: file to write.
        pairs: faces with voices to paint.
        seed: which ones are drawn.
        threads: of torch.
        progress: called with what is painted and all there is to paint after each pair.

    Raises:
        ConfigError: the checkpoints do not belong together, there are too few videos, or the
            painted mouth hardly moves.
        MediaError: there are no videos.
    """
    torch.set_num_threads(threads)
    read = load_checkpoint(checkpoint)
    model = build_model(read)
    hearing = _Hearing(
        model.audio_encoder, _opening_head(audio, model), WindowPlacement.from_dict(read.placement)
    )
    own = [path for path in find_videos(videos) if not is_held_out(path.stem)]
    drawn = _ring(own, pairs, seed)
    if len(drawn) < _LEAST_PAIRS:
        raise _too_few(videos, len(drawn))
    kept = len(drawn) - round(CONTROL_SHARE * len(drawn))
    whole, done = 2 * len(drawn) - kept, 0

    def paint(bench: Bench, chosen: Sequence[tuple[Path, Path]]) -> list[Painted]:
        nonlocal done
        found = []
        for face, voice in chosen:
            with suppress(MediaError):  # a clip without a face, say: the others will do
                found.append(hearing.set_against(bench.painted(face, voice)[0], voice))
            done += 1
            if progress is not None:
                progress(done, whole)
        return found

    bench = Bench(TorchPainter(read, torch.device("cpu")))
    fitted, before = paint(bench, drawn[:kept]), paint(bench, drawn[kept:])
    if not fitted or not before:
        raise _too_few(videos, len(fitted) + len(before))
    apply(model, correct(fitted, model.rest.double().numpy()))
    read.model.update(model.state_dict())
    bench = Bench(TorchPainter(read, torch.device("cpu")))
    result = Calibration(
        pairs=len(fitted),
        control=len(before),
        before=_following(before),
        after=_following(paint(bench, drawn[kept:])),
    )
    save_corrected(out, read, read.model, {"calibration": asdict(result)})
    return result


def _ring(clips: Sequence[Path], pairs: int, seed: int) -> list[tuple[Path, Path]]:
    """Faces with voices, each clip once as both at most."""
    order = np.random.default_rng(seed).permutation(len(clips))[: pairs if len(clips) > 1 else 0]
    ring = [clips[i] for i in order]
    return list(zip(ring, [*ring[1:], *ring[:1]], strict=True))


def _too_few(videos: Path, pairs: int) -> ConfigError:
    return ConfigError(
        f"{videos} makes {pairs} pairs of a face and another clip's voice, without the clips that"
        f" are held out, but at least {_LEAST_PAIRS} are needed: name a folder with more videos, or"
        " ask for more pairs."
    )


class _Hearing:
    """What an audio encoder makes of a voice."""

    def __init__(self, encoder: AudioEncoder, opening: nn.Linear, placement: WindowPlacement):
        self._encoder, self._opening, self._placement = encoder.eval(), opening, placement

    @torch.inference_mode()
    def set_against(self, painted: Floats, voice: Path) -> Painted:
        """The opening that was painted for a voice beside what is heard in it.

        Raises:
            MediaError: the voice can't be read.
        """
        samples = read_audio(voice, SAMPLE_RATE)
        windows = torch.from_numpy(frame_windows(samples, len(painted), self._placement))
        embedding: Tensor = self._encoder(windows)
        heard = self._opening(embedding).squeeze(1)
        return Painted(embedding.double().numpy(), heard.double().numpy(), painted)


def _opening_head(audio: Path, model: Generator) -> nn.Linear:
    """How the opening is read off an embedding, from the encoder's own lesson."""
    lesson = load_checkpoint(audio)
    own = model.audio_encoder.state_dict()
    same = lesson.model.keys() == own.keys() and all(
        torch.equal(lesson.model[name], own[name]) for name in own
    )
    heads = lesson.training.get("heads", {})
    if not same or not {"opening.weight", "opening.bias"} <= heads.keys():
        raise ConfigError(
            f"The audio encoder of the generator is not the one of {audio}: name the audio.pt that"
            " the generator was trained with."
        )
    head = nn.Linear(EMBEDDING, 1)
    head.load_state_dict({name: heads[f"opening.{name}"] for name in ("weight", "bias")})
    return head


def _following(painted: Sequence[Painted]) -> float:
    return float(np.mean([correlation(p.heard, p.painted) for p in painted]))


def _ridge(rows: Floats, wanted: Floats, strength: float) -> Floats:
    """Weights (c,) that carry rows (n, c) to what is wanted (n,), without an offset."""
    products = rows.T @ rows
    products += strength * np.trace(products) / len(products) * np.eye(len(products))
    return np.asarray(np.linalg.solve(products, rows.T @ wanted), np.float64)
