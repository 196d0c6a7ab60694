"""mediapipe's face networks, run by OpenVINO: where the faces are, and 468 points on one of them.

The .tflite files are read from an installed mediapipe 0.10.21, which is never imported; that is
the last release whose wheel carries them. Input layouts, anchors and the region of interest
follow the model cards of BlazeFace and Face Mesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.model_files import model_folder
from engine.openvino_cpu import compile_model

MESH_POINTS: Final = 468
"""Points of the face mesh."""

OUTER_EYE_CORNERS: Final = (33, 263)
"""Mesh points of the outer eye corners: left in the picture, right in the picture."""

MESH_INPUT_PX: Final = 192
# Side of the mesh's region in outer-eye-corner distances, and how far its centre lies below the
# eyes: what 1.5 × the mesh's bounding box (the Face Mesh card) comes to for a closed mouth.
# Taken from the eyes alone, the region does not grow when the mouth opens.
MESH_REGION_SIDE: Final = 2.8
MESH_REGION_DROP: Final = 0.33
MIN_SPAN_PX: Final = 0.1

# Boxes that share more than this of their union show the same face.
SAME_FACE_IOU: Final = 0.3
# Below this score the short-range network may have seen a wall for a face.
SURE_SCORE: Final = 0.75
# Above this size (pixels) a picture is averaged down before the detectors sample it.
FINE_PICTURE_PX: Final = 1024


@dataclass(frozen=True, slots=True)
class FaceBox:
    """One detected face, in pixels of the picture.

    Attributes:
        x0, y0, x1, y1: the box, brow to chin, which may reach beyond the picture.
        eyes: float32 (2, 2), x and y of the eye centres, left in the picture first.
        score: 0..1.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    eyes: NDArray[np.float32]
    score: float

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def scaled(self, by: NDArray[np.float32]) -> FaceBox:
        """The same face in a picture that is (2,) times as wide and high."""
        x, y = (float(v) for v in by)
        return FaceBox(
            self.x0 * x, self.y0 * y, self.x1 * x, self.y1 * y, self.eyes * by, self.score
        )


@dataclass(frozen=True, slots=True)
class _DetectorSpec:
    file: str
    side_px: int
    strides: tuple[tuple[int, int], ...]
    """(stride in pixels, anchors a cell) of each output layer."""

    def anchors(self) -> NDArray[np.float32]:
        """Centres of the anchors, float32 (n, 2) in 0..1."""
        layers = []
        for stride, per_cell in self.strides:
            cells = self.side_px // stride
            centre = (np.arange(cells, dtype=np.float32) + 0.5) / cells
            grid = np.stack(np.meshgrid(centre, centre), axis=-1).reshape(-1, 2)
            layers.append(np.repeat(grid, per_cell, axis=0))
        return np.concatenate(layers)


_SHORT_RANGE: Final = _DetectorSpec(
    "face_detection/face_detection_short_range.tflite", 128, ((8, 2), (16, 6))
)
_FULL_RANGE: Final = _DetectorSpec(
    "face_detection/face_detection_full_range_sparse.tflite", 192, ((4, 1),)
)


def _iou(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of one (4,) box x0 y0 x1 y1 with (n, 4) others."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    union = np.prod(box[2:] - box[:2]) + areas - inter
    return np.asarray(inter / np.maximum(union, 1e-9), dtype=np.float32)


def _is_among(face: FaceBox, faces: list[FaceBox]) -> bool:
    """Whether one of the faces covers the same place."""
    others = np.array([[f.x0, f.y0, f.x1, f.y1] for f in faces], dtype=np.float32).reshape(-1, 4)
    box = np.array([face.x0, face.y0, face.x1, face.y1], dtype=np.float32)
    return bool((_iou(box, others) > SAME_FACE_IOU).any())


def _request(path: Path, threads: int) -> Any:
    return compile_model(str(path), threads=threads).create_infer_request()


class _Detector:
    """One BlazeFace network."""

    def __init__(self, folder: Path, spec: _DetectorSpec, threads: int) -> None:
        self._spec = spec
        self._anchors = spec.anchors()
        self._request = _request(folder / spec.file, threads)

    def __call__(self, rgb: NDArray[np.uint8], min_score: float) -> list[FaceBox]:
        height, width = rgb.shape[:2]
        side = max(height, width)
        finer = side // (4 * self._spec.side_px) if side > FINE_PICTURE_PX else 1
        if finer > 1:  # sampling single pixels of a large picture would feed the network noise
            size = (max(width // finer, 1), max(height // finer, 1))
            small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
            grown = np.array([width / size[0], height / size[1]], dtype=np.float32)
            return [face.scaled(grown) for face in self(np.asarray(small, np.uint8), min_score)]
        scale = self._spec.side_px / side
        pad = ((side - width) / 2, (side - height) / 2)
        matrix = np.array(
            [[scale, 0, pad[0] * scale], [0, scale, pad[1] * scale]], dtype=np.float64
        )
        size = (self._spec.side_px, self._spec.side_px)
        letterbox = cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_LINEAR)
        result = self._request.infer([letterbox[None].astype(np.float32) / 127.5 - 1.0])
        outputs = sorted((np.asarray(v)[0] for v in result.values()), key=lambda v: v.shape[1])
        logits, raw = outputs[0][:, 0], outputs[1]
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -80, 80)))
        keep = np.flatnonzero(scores >= min_score)
        if keep.size == 0:
            return []
        scores, raw, anchors = scores[keep], raw[keep] / self._spec.side_px, self._anchors[keep]
        centre, extent = raw[:, 0:2] + anchors, raw[:, 2:4]
        boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
        eyes = raw[:, 4:8].reshape(-1, 2, 2) + anchors[:, None]
        shift = np.array(pad, dtype=np.float32)
        return self._suppress(boxes * side - np.tile(shift, 2), eyes * side - shift, scores)

    @staticmethod
    def _suppress(
        boxes: NDArray[np.float32], eyes: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> list[FaceBox]:
        """Merge overlapping detections by their scores' weights (BlazeFace §4.2)."""
        faces = []
        rest = np.argsort(-scores)
        while rest.size:
            near = _iou(boxes[rest[0]], boxes[rest]) > SAME_FACE_IOU
            near[0] = True
            group, rest = rest[near], rest[~near]
            weight = scores[group] / scores[group].sum()
            x0, y0, x1, y1 = (float(v) for v in weight @ boxes[group])
            pair = np.einsum("n,npc->pc", weight, eyes[group]).astype(np.float32)
            faces.append(FaceBox(x0, y0, x1, y1, pair, float(scores[group[0]])))
        return faces


class FaceModels:
    """Detector and mesh, each call one picture. Not for use from several threads at once."""

    def __init__(self, *, threads: int = 1) -> None:
        """Load the networks.

        Args:
            threads: of each network on the CPU; they are too small to gain from more than one.

        Raises:
            ConfigError: the model files are missing.
        """
        folder = model_folder("mediapipe", "modules", _SHORT_RANGE.file, "face models")
        self._detectors = [_Detector(folder, s, threads) for s in (_SHORT_RANGE, _FULL_RANGE)]
        self._mesh = _request(folder / "face_landmark" / "face_landmark.tflite", threads)

    def detect(
        self, rgb: NDArray[np.uint8], *, min_score: float = 0.5, every: bool = False
    ) -> list[FaceBox]:
        """Find faces, largest first.

        The short-range network sees faces that fill a good part of the picture; where it finds
        none or is unsure, the full-range one looks for small ones too.

        Args:
            rgb: uint8 (H, W, 3).
            min_score: 0..1.
            every: also look for small faces beside a large one.
        """
        faces: list[FaceBox] = []
        for detector in self._detectors:
            faces += [face for face in detector(rgb, min_score) if not _is_among(face, faces)]
            if not every and any(face.score >= SURE_SCORE for face in faces):
                break
        return sorted(faces, key=lambda face: -face.area)

    def mesh(
        self, rgb: NDArray[np.uint8], eyes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float]:
        """Place the mesh on the face whose outer eye corners are given.

        Args:
            rgb: uint8 (H, W, 3).
            eyes: float32 (2, 2), x and y of the outer eye corners, left in the picture first.

        Returns:
            float32 (468, 3), x and y in pixels of the picture and depth in the same unit (smaller
            is nearer), and the network's belief in 0..1 that this is a face.
        """
        across = eyes[1] - eyes[0]
        span = float(np.hypot(*across))
        if span < MIN_SPAN_PX:  # no direction: a mere dot, which no mesh will fit
            across, span = np.array([MIN_SPAN_PX, 0.0], np.float32), MIN_SPAN_PX
        along = across / span
        down = np.array([-along[1], along[0]])
        centre = eyes.mean(axis=0) + down * (MESH_REGION_DROP * span)
        scale = MESH_INPUT_PX / (MESH_REGION_SIDE * span)
        rotation = np.stack([along, down]) * scale
        matrix = np.concatenate(
            [rotation, (MESH_INPUT_PX / 2 - rotation @ centre)[:, None]], axis=1
        )
        size = (MESH_INPUT_PX, MESH_INPUT_PX)
        patch = cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_LINEAR)
        result = self._mesh.infer([patch[None].astype(np.float32) / 255.0])
        outputs = sorted((np.asarray(v).ravel() for v in result.values()), key=lambda v: v.size)
        points = outputs[1].reshape(MESH_POINTS, 3).astype(np.float64)
        back = np.linalg.inv(rotation)
        xy = (points[:, :2] - matrix[:, 2]) @ back.T
        mesh = np.concatenate([xy, points[:, 2:] / scale], axis=1).astype(np.float32)
        return mesh, float(1.0 / (1.0 + np.exp(-outputs[0][0])))
