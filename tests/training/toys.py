"""Small real videos: a portrait that moves its head and opens its mouth with a tone."""

import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.crop import UprightGeometry, cut, head_place, to_crop
from engine.face_models import FaceModels
from engine.media import VideoWriter
from engine.mesh_warp import (
    CHIN,
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    close_mouth,
    moving_points,
    warp,
    warp_field,
)
from engine.phonemes import PhonemeSpan
from engine.tracker import FaceTracker
from training.clips import FPS, is_held_out

SIDE = 224  # px of a picture
LEVELS = 8  # different mouths
WIDEST = 0.22  # of the inter-ocular distance
RATE = 16_000
FRAMES = 60


def held_out_names(count: int, *, held_out: bool = True) -> list[str]:
    """The first names of the form ``clipN`` that are kept for judging, or are not."""
    found: Iterator[str] = (n for n in map("clip{}".format, range(1000)) if is_held_out(n))
    if not held_out:
        found = (n for n in map("clip{}".format, range(1000)) if not is_held_out(n))
    return [next(found) for _ in range(count)]


def syllables(seed: int) -> list[PhonemeSpan]:
    """Open vowels and pauses that fill a clip."""
    chance = np.random.default_rng(seed)
    spans, time_s, end_s = [], 0.0, FRAMES / FPS
    while time_s < end_s:
        for low, high, symbol in ((0.12, 0.45, "_"), (0.16, 0.3, "a")):
            length = float(chance.uniform(low, high))
            spans.append(PhonemeSpan(time_s, min(time_s + length, end_s), symbol))
            time_s = spans[-1].end_s
    return spans


def opening_at(spans: list[PhonemeSpan], times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 in pauses, up to 1 in the middle of each vowel."""
    opening = np.zeros_like(times_s)
    for span in spans:
        if not span.silent:
            place = (times_s - span.start_s) / max(span.end_s - span.start_s, 1e-6)
            inside = (place >= 0) & (place <= 1)
            opening[inside] = np.sin(np.pi * place[inside]) ** 2
    return opening


def speaking_faces(portrait: NDArray[np.uint8], models: FaceModels) -> list[NDArray[np.uint8]]:
    """The portrait with its mouth from shut to wide open, uint8 (SIDE, SIDE, 3) each."""
    face = FaceTracker(models).update(portrait, 0.0)
    assert face is not None
    matrix = UprightGeometry(above=1.6, below=3.0).matrix(head_place(face.mesh), SIDE)
    shut, mesh = close_mouth(cut(portrait, matrix, SIDE), to_crop(face.mesh, matrix))
    unit = float(np.linalg.norm(mesh[263, :2] - mesh[33, :2]))
    jaw = np.zeros(len(mesh), np.float32)
    chin, lip = mesh[CHIN, 1], mesh[14, 1]
    moving = moving_points(mesh)
    below = moving[mesh[moving, 1] > lip - 1]
    # The chin drops as far as the lip in its middle, the jaw's sides less.
    jaw[below] = np.clip((mesh[below, 1] - lip) / (chin - lip), 0, 1)
    middle = 1 - ((mesh[:, 0] - mesh[14, 0]) / (0.5 * unit)) ** 2
    for row in (LOWER_INNER_LIP, LOWER_OUTER_LIP):
        jaw[list(row)[1:-1]] = np.clip(middle, 0, 1)[list(row)[1:-1]]
    faces = []
    for level in range(LEVELS):
        target = mesh.copy()
        target[:, 1] += jaw * unit * WIDEST * level / (LEVELS - 1)
        picture = warp(shut, warp_field(mesh, target, SIDE))
        if level:
            upper = target[[78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308], :2]
            lower = target[list(LOWER_INNER_LIP), :2]
            hole = np.concatenate([upper, lower[::-1]])
            cv2.fillPoly(picture, [np.round(hole).astype(np.int32)], (60, 20, 20))
        faces.append(picture)
    return faces


def tone(spans: list[PhonemeSpan]) -> NDArray[np.float32]:
    """A buzz as loud as the mouth is open, with a little noise beneath."""
    times = np.arange(FRAMES * RATE // FPS) / RATE
    buzz = sum(np.sin(2 * np.pi * 140 * n * times) / n for n in range(1, 20))
    noise = np.random.default_rng(0).normal(size=len(times))
    return (0.2 * buzz * opening_at(spans, times) + 0.001 * noise).astype(np.float32)


def pictures(
    faces: list[NDArray[np.uint8]], spans: list[PhonemeSpan], seed: int
) -> Iterator[NDArray[np.uint8]]:
    """FRAMES pictures of a swaying head, each with the mouth of its time."""
    times = (np.arange(FRAMES) + 0.5) / FPS
    for time_s, opening in zip(times, opening_at(spans, times), strict=True):
        sway = 3.0 * np.sin(2 * np.pi * 0.5 * time_s + seed)
        matrix = np.array([[1, 0, sway], [0, 1, 0.5 * sway]], dtype=np.float64)
        face = faces[round(float(opening) * (LEVELS - 1))]
        moved = cv2.warpAffine(face, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        yield np.asarray(moved, dtype=np.uint8)


def write_video(path: Path, faces: list[NDArray[np.uint8]], seed: int) -> list[PhonemeSpan]:
    """Write one clip with sound; returns what is said in it."""
    spans = syllables(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(
        path, width=SIDE, height=SIDE, fps=Fraction(FPS), audio_rate=RATE, preset="ultrafast"
    ) as writer:
        for picture in pictures(faces, spans, seed):
            writer.write_frame(picture)
        writer.write_audio(tone(spans))
    return spans


def write_wav(path: Path, samples: NDArray[np.float32], rate: int) -> None:
    """Write one channel of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
