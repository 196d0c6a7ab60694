"""Prepared clips packed into tar files, for training beyond one disk.

    python -m training shards PREPARED -o SHARDS

A folder of shards holds ``train-000000.tar`` and so on, ``judge-000000.tar`` and so on with the
clips that are kept for judging, and ``index.json``, written last. A shard is in WebDataset's
layout. The members of a clip lie together and share a key, its number in the order of packing:

    00000000.json         what ``clip.json`` holds as ``clip``, the mouth's ``opening`` a frame
    00000000.crops.zip    the frames as 000000.webp and so on, lossless, RGB, not compressed again
    00000000.mesh.npy     float16 (n, 468, 3)
    00000000.audio.npy    int16 (samples,)

Pictures are WebP one by one: 0.38 of the raw size where PNG takes 0.54 and zlib 0.81 (real clips,
96 pixels), and the k frames of a sample are decoded alone. Lossless video would take 0.32, but has
to be decoded from a clip's start.

**Order.** An identity reference is another moment of the same person, mostly of another clip, so a
reader needs several clips of one speaker at a time. Each speaker's clips are shuffled and dealt
into groups of two to four (a lone clip is one by itself). A group is never torn apart, and the
groups of a speaker are spread evenly over all shards. So every shard holds many speakers, and all
it takes to draw from it.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, MediaError
from engine.files import sha256_of, write_whole
from engine.lips import mouth_opening
from training.clips import Clip, ClipInfo, find_clips, is_held_out, read_clip

INDEX: Final = "index.json"
FORMAT: Final = 1
GROUP: Final = 4
"""Clips of one speaker that lie together, at most."""
MB: Final = 1_000_000

Split = Literal["train", "judge"]
_Members = dict[str, bytes]
SPLITS: Final[tuple[Split, ...]] = ("train", "judge")

_LOSSLESS: Final = [cv2.IMWRITE_WEBP_QUALITY, 101]  # OpenCV: above 100 means lossless
_AGAIN: Final = "run `python -m training shards` again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """What the index says of one tar file.

    Attributes:
        file: its name.
        bytes: its size.
        sha256: of its content.
        frames: of all its clips.
        speakers: number of clips of each speaker.
    """

    file: str
    bytes: int
    sha256: str
    frames: int
    speakers: Mapping[str, int]


def is_finished(root: Path) -> bool:
    """Whether a folder holds shards and their index."""
    return (root / INDEX).is_file()


def is_sharded(root: Path) -> bool:
    """Whether a folder holds shards.

    Raises:
        ConfigError: they are not finished.
    """
    if is_finished(root):
        return True
    if any(root.glob("*.tar")) or any(root.glob("*.tar.partial")):
        raise ConfigError(f"{root} holds shards without {INDEX}, unfinished ones: {_AGAIN}.")
    return False


def read_index(root: Path, split: Split) -> tuple[Shard, ...]:
    """The shards of a folder.

    Args:
        root: folder of shards.
        split: those to learn from or those to judge by.

    Raises:
        ConfigError: the index can't be read.
    """
    try:
        stored = json.loads((root / INDEX).read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise ValueError(f"it has format {stored['format']}, not {FORMAT}")
        return tuple(Shard(**shard) for shard in stored[split])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{root / INDEX} is no index of shards ({error}): {_AGAIN}.") from error


def opening_of_frames(clip: Clip) -> NDArray[np.float64]:
    """How far the mouth is open in each frame of a clip, (n,)."""
    return np.array([mouth_opening(m) for m in clip.mesh.astype(np.float32)])


def description(clip: Clip) -> dict[str, Any]:
    """What a shard's JSON says of a clip."""
    return {"clip": asdict(clip.info), "opening": opening_of_frames(clip).tolist()}


def dealt(prepared: Path, seed: int) -> dict[Split, list[list[Path]]]:
    """Groups of clips' folders in the order of packing; the seed alone decides it.

    Raises:
        ConfigError: there are no clips.
    """
    folders: dict[Split, dict[str, list[Path]]] = {s: defaultdict(list) for s in SPLITS}
    for folder in find_clips(prepared):
        split: Split = "judge" if is_held_out(folder.name) else "train"
        folders[split][read_clip(folder).info.speaker].append(folder)
    result: dict[Split, list[list[Path]]] = {}
    for number, (split, speakers) in enumerate(folders.items()):
        chance = np.random.default_rng((seed, number))
        placed: list[tuple[float, list[Path]]] = []
        for _, clips in sorted(speakers.items()):
            order = chance.permutation(len(clips))
            groups = np.array_split(order, -(-len(clips) // GROUP))
            places = (np.arange(len(groups)) + chance.random()) / len(groups)
            placed += [(p, [clips[i] for i in g]) for p, g in zip(places, groups, strict=True)]
        result[split] = [group for _, group in sorted(placed)]
    return result


class Packer:
    """Packs prepared clips; a stopped packing goes on after its last whole shard."""

    def __init__(
        self,
        prepared: Path,
        out: Path,
        *,
        size: int,
        seed: int = 0,
        workers: int = 1,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Say what is to be packed.

        Args:
            prepared: prepared clips.
            out: folder of the shards.
            size: bytes of a shard at most; one group alone may be larger.
            seed: of the order.
            workers: threads that compress pictures.
            say: told of each shard.
        """
        self._prepared, self._out = prepared, out
        self._size, self._seed, self._workers, self._say = size, seed, workers, say
        self._known: dict[str, str] = {}  # hash of each file that an index has
        self._ahead: tuple[list[Path], list[_Members]] = [], []  # compressed, not yet written

    def pack(self) -> dict[Split, list[Shard]]:
        """Write what is missing, then the index.

        Raises:
            ConfigError: there are no clips, or the folder holds other or damaged shards.
            MediaError: the folder can't be written.
        """
        groups = dealt(self._prepared, self._seed)
        if is_finished(self._out):
            self._known = {s.file: s.sha256 for n in SPLITS for s in read_index(self._out, n)}
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(self._workers) as pool:
                shards = {s: list(self._pack(s, deque(groups[s]), pool)) for s in SPLITS}
            self._refuse_others({shard.file for found in shards.values() for shard in found})
            plain = {s: [asdict(shard) for shard in found] for s, found in shards.items()}
            write_whole(self._out / INDEX, json.dumps({"format": FORMAT} | plain, indent=1))
        except OSError as error:
            raise MediaError(
                f"The shards can't be written ({error}): make room for them, or name another"
                " folder with -o; the same command goes on."
            ) from error
        return shards

    def _pack(self, split: Split, groups: deque[list[Path]], pool: Executor) -> Iterator[Shard]:
        first = 0
        for number in count():
            if not groups:
                return
            path = self._out / f"{split}-{number:06d}.tar"
            if path.is_file():
                clips, verb = self._keep(path, groups), "kept"
            else:
                clips, verb = self._write(path, groups, first, pool), "wrote"
            first += len(clips)
            size = path.stat().st_size
            self._say(f"{verb} {path.name}: {len(clips)} clips, {size / MB:.1f} MB")
            yield Shard(
                file=path.name,
                bytes=size,
                sha256=sha256_of(path),
                frames=sum(clip["frames"] for clip in clips),
                speakers=dict(sorted(Counter(clip["speaker"] for clip in clips).items())),
            )

    def _write(
        self, path: Path, groups: deque[list[Path]], first: int, pool: Executor
    ) -> list[dict[str, Any]]:
        """Write groups until the shard is full, and take them away; returns its clips' facts."""
        clips: list[dict[str, Any]] = []
        partial = path.with_name(f"{path.name}.partial")
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            while groups:
                packed = self._packed(groups[0], pool)
                if clips and tar.offset + _tar_bytes(packed) + tarfile.RECORDSIZE > self._size:
                    break
                for members in packed:
                    for suffix, content in members.items():
                        member = tarfile.TarInfo(f"{first + len(clips):08d}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
                    clips.append(json.loads(members["json"])["clip"])
                groups.popleft()
        partial.replace(path)
        return clips

    def _packed(self, group: list[Path], pool: Executor) -> list[_Members]:
        if self._ahead[0] is not group:
            self._ahead = group, [_members(read_clip(folder), pool) for folder in group]
        return self._ahead[1]

    def _keep(self, path: Path, groups: deque[list[Path]]) -> list[dict[str, Any]]:
        """Take away the groups that a shard holds already; returns its clips' facts."""
        try:
            if self._known.get(path.name, "") not in ("", sha256_of(path)):
                raise ValueError("its bytes have changed")
            with tarfile.open(path) as tar:
                files = [tar.extractfile(m) for m in tar if m.name.endswith(".json")]
                stored = [json.load(file) for file in files if file is not None]
            for clip in stored:  # fields that a clip may have now and had not then
                clip["clip"] = asdict(ClipInfo(**clip["clip"]))
        except (tarfile.TarError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path} is damaged ({error}): remove it; the same command writes it again."
            ) from error
        planned: list[dict[str, Any]] = []
        while groups and len(planned) < len(stored):
            planned += [description(read_clip(folder)) for folder in groups.popleft()]
        if json.loads(json.dumps(planned)) != stored:
            raise ConfigError(
                f"{path} holds other clips than {self._prepared} would give it: name another"
                " folder with -o, or the --seed and --size that these shards were made with."
            )
        return [clip["clip"] for clip in planned]

    def _refuse_others(self, files: set[str]) -> None:
        others = sorted(p.name for p in self._out.glob("*.tar") if p.name not in files)
        if others:
            raise ConfigError(
                f"{self._out} holds shards of other clips ({', '.join(others[:3])}): remove them,"
                " or name another folder with -o."
            )


def _members(clip: Clip, pool: Executor) -> _Members:
    """A clip's members by what follows their key."""
    pictures = io.BytesIO()
    with zipfile.ZipFile(pictures, "w") as file:  # stored as they are
        for number, packed in enumerate(pool.map(_webp, clip.crops)):
            file.writestr(zipfile.ZipInfo(picture_name(number)), packed)
    return {
        "json": json.dumps(description(clip)).encode(),
        "crops.zip": pictures.getvalue(),
        "mesh.npy": _npy(clip.mesh),
        "audio.npy": _npy(clip.audio),
    }


def picture_name(frame: int) -> str:
    """The name of a frame's picture among a clip's."""
    return f"{frame:06d}.webp"


def _webp(rgb: NDArray[np.uint8]) -> bytes:
    _, packed = cv2.imencode(".webp", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _LOSSLESS)
    return bytes(packed)


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array))
    return file.getvalue()


def _tar_bytes(samples: Sequence[_Members]) -> int:
    """What samples take in a tar file: a header each, and whole blocks."""
    block = tarfile.BLOCKSIZE
    sizes = [len(content) for members in samples for content in members.values()]
    return sum(block + -(-size // block) * block for size in sizes)
