"""A blind ranking by people, as the paper's Table 3 has it: the page, its key, and its reader.

The page holds the videos themselves and needs no network. It knows systems by random tokens only;
what they stand for is in the key, a file of its own that raters must not have.
"""

from __future__ import annotations

import base64
import html
import json
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.errors import ConfigError, MediaError
from engine.files import write_whole
from training.scoring.intervals import SEED, Estimate, mean_of
from training.scoring.ranking_page import PAGE
from training.scoring.systems import named_videos
from training.tables import Rows

CRITERIA: Final = {
    "sync": "Lip synchronisation: do the lips fit what is heard?",
    "visual": "Visual quality: does the picture look real?",
    "overall": "Overall: which would you rather watch?",
}
"""What people rank by, and what they are asked."""

TRUTH: Final = "true videos"
WORST, BEST = 1, 5  # ends of the paper's scale
MOST_BYTES: Final = 300 * 2**20  # of all videos: what browsers open in one page
_FORMAT: Final = 1
_TYPES: Final = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm"}


@dataclass(frozen=True, slots=True)
class Page:
    """A ranking page and what tells its tokens apart.

    Attributes:
        html: the whole page.
        key: JSON text: which system and clip each token stands for.
        clips: how many are shown.
        systems: how many are shown of each.
    """

    html: str
    key: str
    clips: int
    systems: int


def make_page(
    generated: Mapping[str, Path],
    truth: Path | None,
    *,
    clips: int = 10,
    seed: int = SEED,
    title: str = "Which one speaks best?",
) -> Page:
    """Make a page that shows the same clips by several systems.

    Args:
        generated: folder of each system's videos.
        truth: folder of the true ones, which then take part as one more system.
        clips: how many are drawn, of those that all have.
        seed: which ones.
        title: of the page.

    Raises:
        MediaError: a folder holds no videos, or one can't be read or is no MP4 or WebM.
        ConfigError: less than two systems, no clip that all have, or too many bytes.
    """
    shown = dict(generated) if truth is None else {**generated, TRUTH: truth}
    if len(shown) < 2:
        raise ConfigError("A ranking needs two systems or more: name another --generated folder.")
    videos = {system: named_videos(folder) for system, folder in shown.items()}
    common = sorted(set.intersection(*(set(found) for found in videos.values())))
    if not common:
        raise ConfigError("No clip is there of every system; name their videos alike.")
    drawn = np.random.default_rng(seed).permutation(len(common))[:clips]
    names = [common[i] for i in sorted(drawn)]
    total = sum(videos[system][name].stat().st_size for system in shown for name in names)
    if total > MOST_BYTES:
        raise ConfigError(
            f"The videos have {total // 2**20} MiB, and a page holds {MOST_BYTES // 2**20} MiB:"
            " ask for fewer clips."
        )
    tokens: dict[str, dict[str, str]] = {}
    groups: list[list[dict[str, str]]] = []
    for name in names:
        group = []
        for system in shown:
            token = secrets.token_hex(8)
            tokens[token] = {"system": system, "clip": name}
            group.append({"token": token, "source": _data_url(videos[system][name])})
        # Their order in the file must not tell the systems apart either.
        groups.append(sorted(group, key=lambda shown: shown["token"]))
    page = secrets.token_hex(8)
    content = {"page": page, "format": _FORMAT, "criteria": CRITERIA, "groups": groups}
    # "</" in a script would end it.
    script = json.dumps(content).replace("</", "<\\/")
    key = {"page": page, "format": _FORMAT, "systems": list(shown), "tokens": tokens}
    return Page(
        html=PAGE.replace("{{title}}", html.escape(title)).replace("{{content}}", script),
        key=json.dumps(key, indent=1) + "\n",
        clips=len(names),
        systems=len(shown),
    )


def _data_url(video: Path) -> str:
    kind = _TYPES.get(video.suffix.lower())
    if kind is None:
        raise MediaError(f"{video} is not shown by browsers; convert it to MP4 or WebM.")
    try:
        return f"data:{kind};base64,{base64.b64encode(video.read_bytes()).decode()}"
    except OSError as error:
        raise MediaError(f"{video} can't be read ({error.strerror}); check its rights.") from error


def key_path(page: Path) -> Path:
    """Where a page's key goes: beside it."""
    return page.with_suffix(".key.json")


def write_page(page: Page, path: Path) -> None:
    """Write a page and its key.

    Raises:
        ConfigError: a file can't be written.
    """
    for out, text in ((key_path(path), page.key), (path, page.html)):
        try:
            write_whole(out, text)
        except OSError as error:
            raise ConfigError(
                f"{out} can't be written ({error.strerror}); check its folder."
            ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """What people made of one system.

    Attributes:
        system: its name.
        ranks: by criterion: mean rank, 1 the best; the interval is over people.
        scores: by criterion: the same from 1, the worst, to 5, the best.
        people: how many ranked it.
        votes: how many groups of clips they ranked.
    """

    system: str
    ranks: dict[str, Estimate]
    scores: dict[str, Estimate]
    people: int
    votes: int


def read_ranks(key: Path, ballots: Iterable[Path]) -> list[Ranked]:
    """Turn what a page has exported into means.

    Each person counts the same, however many clips they ranked.

    Args:
        key: the page's key.
        ballots: JSON files that the page gave, one a person.

    Raises:
        ConfigError: a file can't be read, is of another page, or its ranks are no order.
    """
    facts = _load(key, "key")
    tokens, systems = _field(facts, "tokens", dict, key), _field(facts, "systems", list, key)
    own: dict[tuple[str, str], list[float]] = {}
    votes = 0
    for path in ballots:
        ballot = _load(path, "ballot")
        if ballot.get("page") != facts.get("page"):
            raise ConfigError(f"{path} was given by another page than {key}; leave it out.")
        person: dict[tuple[str, str], list[int]] = {}
        for vote in _field(ballot, "votes", list, path):
            criterion, order = _checked(vote, tokens, len(systems), path)
            for rank, system in enumerate(order, 1):
                person.setdefault((criterion, system), []).append(rank)
            votes += 1
        for place, found in person.items():
            own.setdefault(place, []).append(float(np.mean(found)))
    if not own:
        raise ConfigError("The ballots hold no votes; name files that the page has exported.")
    ranked = []
    for system in systems:
        means = {criterion: own.get((criterion, system), []) for criterion in CRITERIA}
        ranked.append(
            Ranked(
                system=system,
                ranks={c: mean_of(values) for c, values in means.items()},
                scores={
                    c: mean_of([score_of(rank, len(systems)) for rank in values])
                    for c, values in means.items()
                },
                people=max(map(len, means.values())),
                votes=votes // len(CRITERIA),
            )
        )
    return ranked


def score_of(rank: float, systems: int) -> float:
    """A rank, 1 the best of so many, on the paper's scale of 1 (worst) to 5 (best)."""
    return BEST - (BEST - WORST) * (rank - 1) / (systems - 1)


def _checked(
    vote: object, tokens: Mapping[str, Any], systems: int, path: Path
) -> tuple[str, Sequence[str]]:
    """A vote's criterion and its systems, the best first."""
    try:
        assert isinstance(vote, dict)
        criterion, order = vote["criterion"], vote["order"]
        known = [tokens[token] for token in order]
        whole = len({entry["system"] for entry in known}) == len(order) == systems
        if criterion not in CRITERIA or not whole or len({e["clip"] for e in known}) != 1:
            raise ValueError("no order of one clip's systems")
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} holds a vote that is no order; export it again.") from error
    return criterion, [entry["system"] for entry in known]


def _load(path: Path, what: str) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
            raise ValueError("another format")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read as a ranking's {what}; name another.") from error
    return facts


def _field(facts: Mapping[str, Any], name: str, kind: type, path: Path) -> Any:
    value = facts.get(name)
    if not isinstance(value, kind):
        raise ConfigError(f"{path} lacks its {name}; make or export it again.")
    return value


def rank_rows(ranked: Sequence[Ranked]) -> Rows:
    """The rows of the paper's Table 3, with the mean ranks beside the scores."""
    rows: Rows = []
    for row in ranked:
        cells = [
            text
            for criterion in CRITERIA
            for text in (_cell(row.scores[criterion]), _cell(row.ranks[criterion], ends=False))
        ]
        rows.append((row.system, str(row.people), *cells))
    return rows


RANK_HEADS: Final = (
    *("Method", "people", "Sync ↑", "rank"),
    *("Visual ↑", "rank", "Overall ↑", "rank"),
)


def _cell(estimate: Estimate, *, ends: bool = True) -> str:
    if estimate.value is None or math.isnan(estimate.value):
        return "-"
    text = f"{estimate.value:.2f}"
    if not ends or estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{estimate.low:.2f}, {estimate.high:.2f}]"
