"""What lies where in a data set's folder: its clips, and who is seen in them.

Nothing is read but names. Each layout is that of the data set as it is handed out, or as another
project's own preparation leaves it; ``own`` is one folder a person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final, Literal, get_args

from engine.errors import ConfigError, MediaError

SUFFIXES: Final = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"}

LayoutName = Literal["own", "lrs2", "lrw", "hdtf", "wav2lip", "talklip"]
LAYOUTS: Final[tuple[LayoutName, ...]] = get_args(LayoutName)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A clip of a data set.

    Attributes:
        pictures: a video, or a folder of pictures that are named by their number.
        sound: the file of its sound where that is apart.
        speaker: who is seen.
        name: unique among the speaker's clips, and the same in every run.
        place: folder of the prepared clip, relative to that of all.
        key: what a list of clips calls it.
        split: part of the data set that it belongs to, where there are such.
    """

    pictures: Path
    sound: Path | None = None
    speaker: str
    name: str
    place: PurePosixPath
    key: str
    split: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a data set lies.

    Attributes:
        expects: what a folder must hold, to end a sentence with.
        least_s: clips shorter than this are left out, in seconds.
        items: finds the clips under a folder, in any order.
    """

    expects: str
    least_s: float
    items: Callable[[Path], Iterator[Item]]


def find_items(source: Path, layout: LayoutName = "own") -> list[Item]:
    """All clips of a data set, in order of their places.

    Args:
        source: folder of the data set.
        layout: which it is.

    Raises:
        MediaError: the folder is missing or does not look like that layout, or two clips would
            become one.
    """
    _check(source)
    rules = LAYOUT[layout]
    items = sorted(rules.items(source), key=lambda item: item.place)
    if not items:
        raise MediaError(
            f"{source} does not look like --layout {layout}: it should hold {rules.expects}."
        )
    for one, other in pairwise(items):
        if one.place == other.place:
            raise MediaError(
                f"{one.pictures} and {other.pictures} would become one clip: rename one of them."
            )
    return items


def choose_items(items: Sequence[Item], listed: Path) -> tuple[list[Item], list[str]]:
    """Those clips that a list names, such as a data set's ``train.txt``.

    Args:
        items: of :func:`find_items`.
        listed: text file whose lines begin with a clip's path, without its ending or with it,
            relative to the data set's folder; what follows in a line does not count. LRS2's lists
            say ``id/number``: of ``pretrain/`` in a list whose name begins so, else of ``main/``.

    Returns:
        The clips, their split the list's name, and the lines that name none of them.

    Raises:
        ConfigError: the list can't be read or names none of the clips.
    """
    try:
        lines = listed.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The list {listed} can't be read ({error}); name a text file."
        ) from error
    wanted = {_without_ending(line.split()[0]): None for line in lines if line.strip()}
    part = "pretrain" if listed.stem.startswith("pretrain") else "main"
    chosen, seen = [], set()
    for item in items:
        names = {item.key, item.key.removeprefix(f"{part}/")} & wanted.keys()
        if names:
            chosen.append(replace(item, split=listed.stem))
            seen |= names
    if not chosen:
        first = next(iter(wanted), None)
        raise ConfigError(
            f"The list {listed} names no clip of this folder (its first line:"
            f" {first or 'empty'}; a clip is called, for instance, {items[0].key})."
        )
    return chosen, [name for name in wanted if name not in seen]


def find_videos(source: Path) -> list[Path]:
    """Videos in a folder and its subfolders, links included, in order.

    Raises:
        MediaError: there are none.
    """
    _check(source)
    videos = sorted(_videos(source))
    if not videos:
        raise MediaError(f"{source} holds no videos ({', '.join(sorted(SUFFIXES))}).")
    return videos


def _check(source: Path) -> None:
    if not source.is_dir():
        raise MediaError(f"{source} is not a folder: name the folder that holds the videos.")


def _videos(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Videos under a folder; a link to a folder that it lies in is not followed round and round."""
    real = folder.resolve()
    if real in above:
        return
    for path in _inside(folder):
        if path.is_dir():
            yield from _videos(path, above | {real})
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise MediaError(f"{folder} can't be read ({error.strerror}); check its rights.") from error


def _without_ending(name: str) -> str:
    path = PurePosixPath(name.removeprefix("./"))
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


def _relative(path: Path, source: Path) -> str:
    return path.relative_to(source).with_suffix("").as_posix()


def _own(source: Path) -> Iterator[Item]:
    for path in _videos(source):
        key = _relative(path, source)
        speaker = path.parent.name or path.parent.resolve().name
        yield Item(
            pictures=path, speaker=speaker, name=path.stem, place=PurePosixPath(key), key=key
        )


_LRS2: Final = re.compile(r"(?:(main|pretrain)/)?(\d+)/(\d+)")


def _lrs2(source: Path) -> Iterator[Item]:
    """``main/ID/NUMBER.mp4`` and ``pretrain/ID/NUMBER.mp4``, or one of the two by itself."""
    for path in _videos(source):
        key = _relative(path, source)
        found = _LRS2.fullmatch(key)
        part = found and (found[1] or source.resolve().name)
        if found is None or part not in ("main", "pretrain"):
            continue
        # Both parts may number the clips of one id alike.
        name = f"{found[2]}-{found[3]}" if part == "main" else f"pretrain-{found[2]}-{found[3]}"
        place = PurePosixPath(part, found[2], name)
        yield Item(pictures=path, speaker=found[2], name=name, place=place, key=key, split=part)


_LRW: Final = re.compile(r"([^/]+)/(train|val|test)/\1_\d+")


def _lrw(source: Path) -> Iterator[Item]:
    """``WORD/SPLIT/WORD_NUMBER.mp4``; who speaks is not known, so each clip is its own speaker."""
    root = source / "lipread_mp4" if (source / "lipread_mp4").is_dir() else source
    for path in _videos(root):
        key = _relative(path, root)
        if found := _LRW.fullmatch(key):
            # The splits of a word all count from 00001.
            name = f"{found[2]}-{path.stem}"
            place = PurePosixPath(found[2], found[1], name)
            yield Item(pictures=path, speaker=name, name=name, place=place, key=key, split=found[2])


_HDTF: Final = re.compile(r"(.+)_\d+")


def _hdtf(source: Path) -> Iterator[Item]:
    """``VIDEO_INDEX.mp4`` in any folder, as HDTF's own tools cut the clips."""
    for path in _videos(source):
        if found := _HDTF.fullmatch(path.stem):
            key = _relative(path, source)
            place = PurePosixPath(found[1], path.stem)
            yield Item(pictures=path, speaker=found[1], name=path.stem, place=place, key=key)


def _wav2lip(source: Path) -> Iterator[Item]:
    """``ID/NUMBER/0.jpg …`` with ``audio.wav``."""
    for person in filter(Path.is_dir, _inside(source)):
        for folder in filter(Path.is_dir, _inside(person)):
            sound = folder / "audio.wav"
            if sound.is_file():
                yield _numbered(folder, sound, person.name, folder.name)


def _talklip(source: Path) -> Iterator[Item]:
    """``video/ID/NUMBER.mp4`` with ``audio/ID/NUMBER.wav``."""
    videos, sounds = source / "video", source / "audio"
    if not (videos.is_dir() and sounds.is_dir()):
        return
    for path in _videos(videos):
        inside = path.relative_to(videos)
        if len(inside.parts) == 2:
            sound = sounds / inside.with_suffix(".wav")
            yield _numbered(path, sound, path.parent.name, path.stem)


def _numbered(pictures: Path, sound: Path, person: str, number: str) -> Item:
    name = f"{person}-{number}"
    place = PurePosixPath(person, name)
    key = f"{person}/{number}"
    return Item(pictures=pictures, sound=sound, speaker=person, name=name, place=place, key=key)


# A sentence of a data set may be short: its speaker has others, from which a reference can come.
_SENTENCE_S: Final = 1.0
_ALONE_S: Final = 2.0

LAYOUT: Final[Mapping[LayoutName, Layout]] = {
    "own": Layout(
        expects=f"one folder a person with videos in it ({', '.join(sorted(SUFFIXES))})",
        least_s=_ALONE_S,
        items=_own,
    ),
    "lrs2": Layout(
        expects="main/ID/NUMBER.mp4 or pretrain/ID/NUMBER.mp4 (or be one of the two folders)",
        least_s=_SENTENCE_S,
        items=_lrs2,
    ),
    "lrw": Layout(
        expects="WORD/train/WORD_00001.mp4 and so on, with train, val and test",
        least_s=_SENTENCE_S,
        items=_lrw,
    ),
    "hdtf": Layout(
        expects="clips named VIDEO_INDEX.mp4, as HDTF's own tools cut them",
        least_s=_ALONE_S,
        items=_hdtf,
    ),
    "wav2lip": Layout(
        expects="ID/NUMBER/0.jpg, 1.jpg … with audio.wav beside them",
        least_s=_SENTENCE_S,
        items=_wav2lip,
    ),
    "talklip": Layout(
        expects="video/ID/NUMBER.mp4 and audio/ID/NUMBER.wav (links will do)",
        least_s=_SENTENCE_S,
        items=_talklip,
    ),
}
