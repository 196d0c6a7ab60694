"""The metrics of one generated video against the true one.

Pictures and landmarks are compared in tight crops of 96 pixels (``upright-landmarks``: 2.85
inter-ocular distances, brow to below the chin), at 25 frames a second. A generated video whose
pictures have the true ones' size is cut where the true face is, so a face that is displaced counts
as an error; any other is cut by its own face. Figures of a clip are means over its frames, figures
of a set means over its clips. :data:`METRICS` defines each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.crop import Matrix, eye_centres, mesh_box, to_crop
from engine.filterbank import ROW_SAMPLES
from engine.lip_sync import MOST_OFFSET, avs, estimate_offset
from engine.mouth_region import LIPS, points_68
from training.metrics import PSNR_CAP_DB, SSIM_SETTINGS, psnr, ssim
from training.scoring.fan import Fan
from training.scoring.film import Film, Mesh, sound_of, watch
from training.scoring.inception import picture_features
from training.scoring.judges import Embedded, Judges
from training.syncnet import distances, hear_clip, scores, watch_clip

Figures = dict[str, float | None]
"""By the names of :data:`METRICS`; None where a metric's weights or its sound are missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One column of a table.

    Attributes:
        title: its head.
        better: ``higher`` or ``lower``; empty where neither is.
        digits: after the point.
        needs: what must be given for it; empty where nothing.
        definition: what it is.
    """

    title: str
    better: str = ""
    digits: int = 3
    needs: str = ""
    definition: str


_EXPERT, _SYNCNET, _INCEPTION = "a lip expert", "SyncNet v2", "the Inception of FID"

METRICS: Final = {
    "ssim": Metric(
        title="SSIM",
        better="higher",
        definition="Wang et al. 2004, Gaussian windows ("
        + ", ".join(f"{name}={value}" for name, value in SSIM_SETTINGS.items())
        + "), RGB crops; mean over frames",
    ),
    "psnr": Metric(
        title="PSNR",
        better="higher",
        digits=2,
        definition="dB, of RGB crops; mean of the frames' PSNR, not the PSNR of the mean error;"
        f" identical frames count {PSNR_CAP_DB:.0f}",
    ),
    "fid": Metric(
        title="FID",
        better="lower",
        digits=2,
        needs=_INCEPTION,
        definition="squared Fréchet distance of 2048 features of all crops of a set, by the"
        " Inception of 2015-12-05; biased upward in small sets",
    ),
    "lmd": Metric(
        title="LMD",
        better="lower",
        definition="mean distance of the 20 mouth landmarks, in pixels of the 96 crop, not aligned",
    ),
    "lse_c": Metric(
        title="LSE-C",
        better="higher",
        needs=_SYNCNET,
        definition="SyncNet v2: median less least of the mean distances at 31 shifts of the sound",
    ),
    "lse_d": Metric(
        title="LSE-D",
        better="lower",
        needs=_SYNCNET,
        definition="SyncNet v2: the least of these mean distances",
    ),
    "avs_u": Metric(
        title="AVSu",
        better="higher",
        needs=_EXPERT,
        definition="cosine of TE(generated lips, 0) and TE(0, sound); mean of the frames' cosines",
    ),
    "avs_m": Metric(
        title="AVSm",
        better="higher",
        needs=_EXPERT,
        definition="cosine of TE(generated lips, sound) and TE(true lips, sound), likewise",
    ),
    "avs_v": Metric(
        title="AVSv",
        better="higher",
        needs=_EXPERT,
        definition="cosine of TE(generated lips, 0) and TE(true lips, 0), likewise",
    ),
    "lmd_relative": Metric(
        title="LMD/IOD",
        better="lower",
        digits=4,
        definition="LMD over the inter-ocular distance of the true face",
    ),
    "lse_offset": Metric(
        title="LSE offset",
        digits=2,
        needs=_SYNCNET,
        definition="frames by which the sound is late where LSE-D is taken",
    ),
    "avs_offset": Metric(
        title="AVSu offset",
        digits=2,
        needs=_EXPERT,
        definition="frames by which the sound is late where the mean cosine of AVSu is highest"
        f" among ±{MOST_OFFSET}",
    ),
    "avs_u_flat": Metric(
        title="AVSu flat",
        better="higher",
        needs=_EXPERT,
        definition="AVSu as one cosine of all frames' features together",
    ),
    "avs_m_flat": Metric(
        title="AVSm flat", better="higher", needs=_EXPERT, definition="AVSm, likewise"
    ),
    "avs_v_flat": Metric(
        title="AVSv flat", better="higher", needs=_EXPERT, definition="AVSv, likewise"
    ),
}
"""Every metric, the paper's nine first and in its order. TE(lips, sound) are the lip expert's
features after its last normalisation over the whole clip; 0 is a modality that is missing."""

PAPER: Final = tuple(METRICS)[:9]


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One video with all that is asked of it more than once.

    Attributes:
        film: where its face is.
        sound: its own, float32 (n,) at 16 kHz; None where it has none.
        lips: as the lip expert takes them in, where there is one.
        watched: SyncNet's features of its lips, float32 (n, 1024), where there is a SyncNet.
        heard: SyncNet's features of its sound, likewise; None also without sound.
        mouths: the mouth's landmarks in each picture, float64 (20, 2) in its pixels; None without a
            face, or where the mouth was not found.
    """

    film: Film
    sound: NDArray[np.float32] | None
    lips: Embedded | None
    watched: NDArray[np.float32] | None
    heard: NDArray[np.float32] | None
    mouths: Sequence[NDArray[np.float64] | None]


def look(path: Path, judges: Judges, *, sound: NDArray[np.float32] | None = None) -> Side:
    """Watch a video and ask the judges about it.

    Args:
        path: of the video.
        judges: who is there.
        sound: what is heard with it, where that is not in its file.

    Raises:
        MediaError: the video can't be read or is too short, or shows no face.
    """
    film = watch(path)
    sound = sound_of(path) if sound is None else sound
    lips = None
    if judges.expert is not None:
        lips = Embedded(judges.expert, judges.expert.embed_regions(film.regions()))
    watched = heard = None
    if judges.syncnet is not None:
        watched = watch_clip(judges.syncnet, film.syncnet_frames())
        heard = None if sound is None else hear_clip(judges.syncnet, sound)
    mouths = _mouths(film) if judges.fan is None else _fan_mouths(film, judges.fan)
    return Side(film=film, sound=sound, lips=lips, watched=watched, heard=heard, mouths=mouths)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What came of one pair.

    Attributes:
        frames: that both have.
        lost: of them, those in which one of the two shows no face; no landmarks count there.
        figures: of the pair.
    """

    frames: int
    lost: int
    figures: Figures


def matrices_of(made: Film, true: Film) -> Sequence[Matrix | None]:
    """Where a generated video is cut: the true face's place, where pictures have one size.

    A pixel is no difference: many codecs want even sides.
    """
    apart = max(abs(a - b) for a, b in zip(made.shape, true.shape, strict=True))
    return true.matrices if apart <= 1 else made.matrices


def compare(made: Side, true: Side, *, paired: bool = True) -> Compared:
    """All metrics of a generated video but FID, which is one of sets.

    Args:
        made: the generated video; without sound of its own it is heard with the true one's.
        true: the true video.
        paired: whether the two belong together. If not, each is cut by its own face, and the true
            one's sound is heard with the generated lips, whatever sound these have.
    """
    frames = min(len(made.film), len(true.film))
    places = matrices_of(made.film, true.film) if paired else made.film.matrices
    figures: Figures = dict.fromkeys(METRICS)
    figures |= _pictures(made.film, places, true.film)
    figures |= landmark_distances(
        _in_crops(made.mouths, places),
        _in_crops(true.mouths, true.film.matrices),
        _eyes(true.film),
    )
    own = paired and made.sound is not None
    sound = made.sound if own else true.sound
    if made.lips is not None and true.lips is not None:
        figures |= _avs(made.lips.cut(frames), true.lips.cut(frames), sound, true.sound)
    heard = made.heard if own else true.heard
    count = 0 if made.watched is None or heard is None else min(len(made.watched), len(heard))
    if made.watched is not None and heard is not None and count:
        found = scores(distances(made.watched[:count], heard[:count]))
        figures |= {"lse_c": found.lse_c, "lse_d": found.lse_d, "lse_offset": float(found.offset)}
    both = zip(made.film.meshes, true.film.meshes, strict=False)
    return Compared(
        frames=frames, lost=sum(a is None or b is None for a, b in both), figures=figures
    )


def _pictures(made: Film, places: Sequence[Matrix | None], true: Film) -> Figures:
    pairs = [
        (a, b)
        for a, b in zip(made.crops(places), true.crops(true.matrices), strict=False)
        if a is not None and b is not None
    ]
    if not pairs:
        return {}
    return {
        "ssim": float(np.mean([ssim(a, b) for a, b in pairs])),
        "psnr": float(np.mean([psnr(a, b) for a, b in pairs])),
    }


def _mouths(film: Film) -> list[NDArray[np.float64] | None]:
    """The face mesh's landmarks of the mouth, as :class:`Side` has them."""
    return [None if mesh is None else points_68(mesh)[LIPS] for mesh in film.meshes]


def _fan_mouths(film: Film, fan: Fan) -> list[NDArray[np.float64] | None]:
    return [
        None if mesh is None else fan.mouth(picture, mesh_box(mesh))
        for mesh, picture in zip(film.meshes, film.pictures(), strict=True)
    ]


def _in_crops(
    mouths: Sequence[NDArray[np.float64] | None], places: Sequence[Matrix | None]
) -> list[NDArray[np.float64] | None]:
    """Landmarks in pixels of the crop, in each picture."""
    return [
        None if mouth is None or place is None else to_crop(mouth, place).astype(np.float64)
        for mouth, place in zip(mouths, places, strict=False)
    ]


def _eyes(film: Film) -> list[float]:
    """The inter-ocular distance in pixels of the crop; 0 without a face."""
    return [
        0.0 if mesh is None or place is None else _inter_ocular(to_crop(mesh, place))
        for mesh, place in zip(film.meshes, film.matrices, strict=True)
    ]


def _inter_ocular(mesh: Mesh) -> float:
    left, right = eye_centres(mesh)
    return float(np.linalg.norm((right - left)[:2]))


def landmark_distances(
    made: Sequence[NDArray[np.float64] | None],
    true: Sequence[NDArray[np.float64] | None],
    inter_ocular: Sequence[float],
) -> Figures:
    """LMD (Chen et al., 2018), in pixels and by the inter-ocular distance.

    Args:
        made: landmarks (L, 2) of each frame in pixels; None without a face.
        true: likewise.
        inter_ocular: of the true face in each frame, in pixels.

    Returns:
        ``lmd`` and ``lmd_relative``: means over the landmarks of all frames that have both.
    """
    found = [
        (float(np.linalg.norm(a - b, axis=1).mean()), unit)
        for a, b, unit in zip(made, true, inter_ocular, strict=False)
        if a is not None and b is not None
    ]
    if not found:
        return {}
    return {
        "lmd": float(np.mean([distance for distance, _ in found])),
        "lmd_relative": float(np.mean([distance / unit for distance, unit in found])),
    }


def _avs(
    made: Embedded,
    true: Embedded,
    heard: NDArray[np.float32] | None,
    true_sound: NDArray[np.float32] | None,
) -> Figures:
    """The paper's scores (eqs. 4 to 6).

    Args:
        made: the generated lips, T frames.
        true: the true ones.
        heard: what is heard with the generated lips: AVSu.
        true_sound: the A of AVSm, for both.
    """
    frames = len(made.watched)
    silence = np.zeros(frames * ROW_SAMPLES, np.float32)
    sound, lips = made.alone(silence if heard is None else heard)
    true_lips = true.alone(silence).lips
    figures: Figures = _both_ways("avs_v", lips, true_lips)
    if heard is not None:
        figures |= _both_ways("avs_u", lips, sound)
        if frames > MOST_OFFSET:
            figures["avs_offset"] = float(estimate_offset(sound, lips).frames)
    if true_sound is not None:
        figures |= _both_ways("avs_m", made.together(true_sound), true.together(true_sound))
    return figures


def _both_ways(name: str, a: NDArray[np.float32], b: NDArray[np.float32]) -> Figures:
    return {name: avs(a, b), f"{name}_flat": avs(a, b, flatten=True)}


def crop_features(
    film: Film, places: Sequence[Matrix | None], judges: Judges
) -> NDArray[np.float32] | None:
    """The Inception's features of a video's crops, float32 (n, 2048); None without one."""
    if judges.inception is None:
        return None
    crops = [crop for crop in film.crops(places) if crop is not None]
    return picture_features(judges.inception, np.stack(crops)) if crops else None
