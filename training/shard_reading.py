"""Reading shards (:mod:`training.shards`): which are open at a step, and the clips in them.

Prepared clips are all at hand, so a sample is drawn from any of them. Of shards only a few are
open, each read whole from start to end, as disks and networks like it, and held in memory as it
lies on disk; a sample's k frames are decompressed when it is drawn.

Which shards these are follows from the seed, the step and a sample's place in its step, and from
nothing else: a run that goes on opens what it would have had open. A step's samples are dealt to
:data:`LANES` lanes, neighbours to one lane, and a lane has one shard open. All shards are shuffled
once a round, and the lanes take them in turn. A lane keeps a shard until it has drawn about one
sample for each second in it. Lanes start apart, so that they do not all change at once.

A process has a run of neighbours of each step's samples, so it reads the shards of its own lanes
and no others. Several processes draw together what one would draw, however many they are.

Other designs do less. Random access into all tar files needs no memory, but reads a megabyte here
and there, which a network disk is slow at. A shuffle buffer that a stream flows through is quick,
but what is in it depends on everything before: it can't go on at a step without reading again.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from training.clips import FPS, Clip, ClipInfo
from training.shards import Shard, picture_name

LANES: Final = 8
"""Shards that are open at a time, at most, over all processes."""

_FRAMES_A_SAMPLE: Final = FPS  # that a lane moves on by: one sample a second of its shard


class Lanes:
    """The shard that each sample of a step is drawn from."""

    def __init__(self, shards: Sequence[Shard], *, seed: int, samples: int) -> None:
        """Start at the first step.

        Args:
            shards: all that there are to draw from, at least one.
            seed: of the order.
            samples: of a step, over all processes.
        """
        self._shards, self._seed, self._samples = shards, seed, samples
        self._lanes = min(LANES, samples)
        self._turns = [self._turns_of(lane) for lane in range(self._lanes)]
        self._now = [next(turns) for turns in self._turns]

    def lane(self, sample: int) -> int:
        """The lane of one of a step's samples, 0..samples - 1."""
        return sample * self._lanes // self._samples

    def open_at(self, step: int) -> list[int]:
        """The shard, as its place in ``shards``, that each lane has open at a step (1..)."""
        for lane in range(self._lanes):
            if step < self._now[lane][0]:
                self._turns[lane] = self._turns_of(lane)
                self._now[lane] = next(self._turns[lane])
            while step >= self._now[lane][1]:
                self._now[lane] = next(self._turns[lane])
        return [shard for _, _, shard in self._now]

    def _turns_of(self, lane: int) -> Iterator[tuple[int, int, int]]:
        """(first step, step after the last, shard) of a lane, without end."""
        draws = sum(self.lane(sample) == lane for sample in range(self._samples))
        start = 1
        for place in count(lane, self._lanes):
            cycle, within = divmod(place, len(self._shards))
            shard = _order(self._seed, cycle, len(self._shards))[within]
            steps = max(1, round(self._shards[shard].frames / _FRAMES_A_SAMPLE / draws))
            if place == lane:  # the first turns end one after the other
                steps = max(1, steps * (lane + 1) // self._lanes)
            yield start, start + steps, shard
            start += steps


@lru_cache(maxsize=4 * LANES)
def _order(seed: int, cycle: int, shards: int) -> list[int]:
    order: list[int] = np.random.default_rng((seed, cycle, shards)).permutation(shards).tolist()
    return order


class Pictures:
    """A clip's crops, compressed; indexed like the array uint8 (n, S, S, 3) they stand for."""

    def __init__(self, packed: memoryview, frames: int) -> None:
        self._packed, self._frames = packed, frames

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, which: int | slice) -> NDArray[np.uint8]:
        """A frame, or some frames one after the other."""
        with zipfile.ZipFile(io.BytesIO(self._packed)) as file:
            if isinstance(which, slice):
                frames = range(self._frames)[which]
                return np.stack([_picture(file.read(picture_name(f))) for f in frames])
            return _picture(file.read(picture_name(range(self._frames)[which])))


def _picture(packed: bytes) -> NDArray[np.uint8]:
    bgr = cv2.imdecode(np.frombuffer(packed, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError("this is no picture")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def read_shard(root: Path, shard: Shard) -> list[tuple[Clip, NDArray[np.float64]]]:
    """Read a shard into memory, where it stays as long as one of its clips is held.

    Args:
        root: folder of shards.
        shard: one of its index.

    Returns:
        Its clips, each with the opening of the mouth in its frames, (n,). A clip's ``crops`` are
        :class:`Pictures`.

    Raises:
        ConfigError: the file is missing, or not the one that was written.
    """
    path = root / shard.file
    try:
        content = path.read_bytes()
        if len(content) != shard.bytes:
            raise ValueError(f"it has {len(content)} bytes of {shard.bytes}")
        if hashlib.sha256(content).hexdigest() != shard.sha256:
            raise ValueError("its bytes have changed")
        return [_clip(members) for members in _samples(content)]
    except (OSError, KeyError, TypeError, ValueError, tarfile.TarError) as error:
        raise ConfigError(
            f"{path} is not the shard that was written ({error}): copy it again from where it is"
            " whole, or remove it and run `python -m training shards` as before."
        ) from error


def _samples(content: bytes) -> Iterator[Mapping[str, memoryview]]:
    """The members of each clip, by what follows their key; views of the shard's bytes."""
    whole = memoryview(content)
    members: dict[str, memoryview] = {}
    last = ""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            if members and key != last:
                yield members
                members = {}
            members[suffix] = whole[member.offset_data : member.offset_data + member.size]
            last = key
    if members:
        yield members


def _clip(members: Mapping[str, memoryview]) -> tuple[Clip, NDArray[np.float64]]:
    described = json.loads(bytes(members["json"]))
    info = ClipInfo(**described["clip"])
    # All that is asked of a clip's crops is one frame, or some in a row.
    crops = cast("NDArray[np.uint8]", Pictures(members["crops.zip"], info.frames))
    clip = Clip(info, crops, _array(members["mesh.npy"]), _array(members["audio.npy"]))
    return clip, np.array(described["opening"])


def _array(npy: memoryview) -> NDArray[Any]:
    """The array of an ``.npy`` file in C order, not copied."""
    head = io.BytesIO(npy[:1024])
    np.lib.format.read_magic(head)
    shape, _, dtype = np.lib.format.read_array_header_1_0(head)
    return np.frombuffer(npy, dtype, offset=head.tell()).reshape(shape)
