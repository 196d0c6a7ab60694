"""The painted mouth, restored by a network that the user gives: GFPGAN and its like.

Such networks see a whole face, laid on the template of the FFHQ pictures, and draw one with more
detail than there was. Only where the mouth was pasted is their change taken over; everything else
in the picture stays as it is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.chain import Synced
from engine.crop import Matrix, cut
from engine.errors import ConfigError, EngineError
from engine.files import sha256_of
from engine.mouth_region import points_68, similarity
from engine.openvino_cpu import compile_model, core
from engine.paste import paste_mask
from engine.tracker import TrackedFace

STRENGTH: Final = 0.8
"""Share of the network's change that is taken over, unless the user wants another."""

FIDELITY: Final = 1.0
"""What CodeFormer's second input is given: 0 draws the most, 1 keeps closest to the person."""

# Where 512×512 pictures of the FFHQ template have the eyes (left in the picture first), the nose's
# tip and the mouth's corners: the five points of facexlib, which GFPGAN and CodeFormer align with.
TEMPLATE_SIDE: Final = 512
TEMPLATE: Final = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)

SMALLEST_SIDE, LARGEST_SIDE = 64, 2048
_STEADIED: Final = 12  # pictures whose points are averaged, so that the alignment does not tremble
_RIM_SHARE: Final = 0.05  # of the template's side, over which the change fades out at its border
_TRIALS: Final = 3
_NEEDED: Final = "an ONNX file that takes and gives one RGB picture of the shape [1, 3, 512, 512]"


@dataclass(frozen=True, kw_only=True, slots=True)
class EnhanceReport:
    """How pictures were enhanced.

    Attributes:
        model: the file's name.
        sha256: its hash.
        strength: share of the network's change that was taken over, 0..1.
        ms_per_frame: mean time of an enhanced frame; None where there was none.
    """

    model: str
    sha256: str
    strength: float
    ms_per_frame: float | None


class Enhancer:
    """A user's network on OpenVINO's CPU device, ready to enhance one film. For one thread.

    Args:
        path: the ONNX file: RGB in −1..1 in, the same out, square; a second input of one number
            is given :data:`FIDELITY`.
        strength: share of its change that is taken over, 0..1.
        threads: processor threads of one call, from 1.

    Raises:
        ConfigError: the file is missing or no network of this kind.
    """

    def __init__(self, path: Path, *, strength: float = STRENGTH, threads: int = 2) -> None:
        self.path = path
        self.strength = strength
        try:
            self.sha256 = sha256_of(path)
        except OSError as error:
            raise ConfigError(
                f"The enhancement model {path} can't be read ({error.strerror}); check the path."
            ) from error
        if path.suffix.lower() != ".onnx":
            raise ConfigError(f"The enhancement model {path} is no .onnx file; give {_NEEDED}.")
        self._network = _Network(path, threads)
        self._points: deque[NDArray[np.float64]] = deque(maxlen=_STEADIED)
        self._person: int | None = None
        self._frames = 0
        self._busy_s = 0.0

    @property
    def side(self) -> int:
        """Pixels a side of the network's pictures."""
        return self._network.side

    def run(self, pictures: Iterable[Synced]) -> Iterator[Synced]:
        """Enhance what the chain gives; pictures that passed through it unchanged stay so.

        Raises:
            EngineError: the run time failed.
        """
        for synced in pictures:
            if synced.face is None:
                self._points.clear()
                yield synced
            else:
                yield replace(synced, picture=self.on(synced.picture, synced.face))

    def on(self, picture: NDArray[np.uint8], face: TrackedFace) -> NDArray[np.uint8]:
        """The picture with its painted mouth enhanced; pictures of a film come in order.

        Args:
            picture: uint8 (H, W, 3) RGB, into which the mouth was pasted.
            face: where its face is.

        Returns:
            uint8 (H, W, 3), a new picture; pixels outside the paste's mask are those given.

        Raises:
            EngineError: the run time failed.
        """
        started_s = time.monotonic()
        enhanced = self._on(picture, self._align(face), face)
        self._busy_s += time.monotonic() - started_s
        self._frames += 1
        return enhanced

    def report(self) -> EnhanceReport:
        """What was done so far."""
        mean_ms = 1000 * self._busy_s / self._frames if self._frames else None
        return EnhanceReport(
            model=self.path.name,
            sha256=self.sha256,
            strength=self.strength,
            ms_per_frame=None if mean_ms is None else round(mean_ms, 1),
        )

    def trial_ms(self) -> float:
        """Milliseconds that the network takes for a picture on this machine: a median of three."""
        blank = np.full((self.side, self.side, 3), 128, np.uint8)
        times = []
        for _ in range(_TRIALS):
            started_s = time.monotonic()
            self._network(blank)
            times.append(1000 * (time.monotonic() - started_s))
        return median(times)

    def _align(self, face: TrackedFace) -> Matrix:
        """The map from the picture to the template.

        The five points are averaged in the crop, which follows the head, and taken back.
        """
        if face.person != self._person:
            self._points.clear()
            self._person = face.person
        self._points.append(five_points(face.crop_mesh()))
        back = cv2.invertAffineTransform(face.matrix)
        steady = np.mean(self._points, axis=0) @ back[:, :2].T + back[:, 2]
        return similarity(steady, TEMPLATE * (self.side / TEMPLATE_SIDE))

    def _on(
        self, picture: NDArray[np.uint8], matrix: Matrix, face: TrackedFace
    ) -> NDArray[np.uint8]:
        enhanced = picture.copy()
        height, width = picture.shape[:2]
        share = cv2.warpAffine(
            paste_mask(face.resolution),
            face.matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        rows, columns = np.flatnonzero(share.any(axis=1)), np.flatnonzero(share.any(axis=0))
        if len(rows) == 0:
            return enhanced
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        before = cut(picture, matrix, self.side)
        after = _within(before, self._network(before))
        # Only what the network changed goes back, so nothing is lost on the way there and back.
        place = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
        place[:, 2] -= columns[0], rows[0]
        shares = self.strength * share[part][..., None]
        high, wide = shares.shape[:2]
        seen, drawn = (cut(one, place, max(high, wide))[:high, :wide] for one in (before, after))
        change = shares * (drawn.astype(np.float32) - seen)
        enhanced[part] = np.clip(np.rint(picture[part] + change), 0, 255)
        return enhanced


def five_points(mesh: NDArray[np.float32]) -> NDArray[np.float64]:
    """Eyes, nose's tip and mouth's corners of a (468, 2 or 3) mesh: (5, 2), as in the template."""
    points = points_68(mesh)
    eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    return np.stack([*eyes, points[30], points[48], points[54]])


@lru_cache(maxsize=2)
def _inside(side: int) -> NDArray[np.float32]:
    """1 within the template, falling to 0 at its border: float32 (side, side, 1)."""
    to_border = np.minimum(np.arange(side), np.arange(side)[::-1]) / (_RIM_SHARE * side)
    ramp = np.minimum(to_border, 1)
    return np.asarray(np.minimum.outer(ramp, ramp)[..., None], np.float32)


def _within(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The network's picture, (side, side, 3), led back to the given one at its border."""
    change = _inside(len(before)) * (after.astype(np.float32) - before)
    return np.rint(before + change).astype(np.uint8)


class _Network:
    """The graph: uint8 RGB pictures in and out.

    Raises:
        ConfigError: the file can't be run, or its inputs or outputs do not fit.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        try:
            model = core().read_model(str(path))
            self.side = self._fix_shapes(model)
            compiled = compile_model(model, threads=threads)
            self._request: Any = compiled.create_infer_request()
            self._types = [port.get_element_type().to_dtype() for port in compiled.inputs]
            self._given = [tuple(port.get_shape()) for port in compiled.inputs]
            # The graph's own word for its output may be open; a first run shows what it gives.
            found = self._infer(np.zeros((self.side, self.side, 3), np.uint8))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise self._unfit(f"OpenVINO can't run it ({reason})") from error
        if found.shape != (1, 3, self.side, self.side):
            raise self._unfit(
                f"for a picture of {[1, 3, self.side, self.side]} it gives {list(found.shape)}"
            )
        if not np.isfinite(found).all():
            raise self._unfit("for a black picture it gives no finite numbers")

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Enhance an aligned face, uint8 (side, side, 3).

        Raises:
            EngineError: the run time failed.
        """
        try:
            found = self._infer(picture)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO failed in {self._path}; leave the enhancement out to go on without it."
            ) from error
        if not np.isfinite(found).all():
            raise EngineError(
                f"{self._path} gave no finite numbers for a picture; leave the enhancement out, or"
                " use another export of the model."
            )
        levels = np.clip((found[0].transpose(1, 2, 0) + 1) * 127.5, 0, 255)
        return np.asarray(np.rint(levels), np.uint8)

    def _infer(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the first output holds, as it comes."""
        values = picture.transpose(2, 0, 1)[None] / np.float32(127.5) - 1
        feed = [
            values.astype(kind) if len(shape) == 4 else np.full(shape, FIDELITY, kind)
            for shape, kind in zip(self._given, self._types, strict=True)
        ]
        self._request.infer(feed)
        return np.array(self._request.get_output_tensor(0).data, np.float32)

    def _fix_shapes(self, model: Any) -> int:
        """See that the inputs fit, fix what they leave open, and return the pictures' side."""
        sizes = [_sizes(port) for port in model.inputs]
        pictures = [size for size in sizes if size is not None and len(size) == 4]
        others = [size for size in sizes if size not in pictures]
        if len(pictures) != 1:
            raise self._unfit(f"it takes {len(pictures) or 'no'} pictures, not one")
        if any(size not in ([], [1], [None]) for size in others):
            raise self._unfit("it takes more than a picture and a number")
        count, colours, height, width = pictures[0]
        if count not in (None, 1):
            raise self._unfit(f"it takes {count} pictures at once")
        if colours != 3:
            raise self._unfit(f"it takes pictures of the shape {_text(pictures[0])}")
        if height is None or width is None:
            raise self._unfit("it leaves the side of its pictures open")
        if height != width or not SMALLEST_SIDE <= height <= LARGEST_SIDE:
            raise self._unfit(f"it takes pictures of {width} by {height} pixels")
        for port in (*model.inputs, *model.outputs[:1]):
            if not port.get_element_type().is_real():
                raise self._unfit(f"it works on {port.get_element_type().get_type_name()}")
        fixed = {
            port: [1 if length is None else length for length in size]
            for port, size in zip(model.inputs, sizes, strict=True)
            if size is not None
        }
        model.reshape(fixed)
        return int(height)

    def _unfit(self, why: str) -> ConfigError:
        return ConfigError(f"{self._path} can't enhance faces, for {why}; give {_NEEDED}.")


def _sizes(port: Any) -> list[int | None] | None:
    """The lengths of an input's axes, None for one that is open; None where even their number is.

    Args:
        port: of a model.
    """
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    return [None if length.is_dynamic else length.get_length() for length in shape]


def _text(size: list[int | None]) -> str:
    return "[" + ", ".join("any" if length is None else str(length) for length in size) + "]"
