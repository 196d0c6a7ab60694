import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError, MediaError
from training.scoring.ranking import (
    CRITERIA,
    TRUTH,
    Page,
    key_path,
    make_page,
    rank_rows,
    read_ranks,
    score_of,
    write_page,
)

pytestmark = pytest.mark.unit


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Videos (of a few bytes) by two systems, and the true ones."""
    for system in ("alpha", "beta", "truth"):
        (tmp_path / system).mkdir()
        for name in ("x", "y", "z"):
            (tmp_path / system / f"{name}.mp4").write_bytes(f"{system} {name}".encode())
    (tmp_path / "beta" / "z.mp4").unlink()
    return {system: tmp_path / system for system in ("alpha", "beta", "truth")}


@pytest.fixture
def page(folders: dict[str, Path]) -> Page:
    return make_page({s: folders[s] for s in ("alpha", "beta")}, folders["truth"])


def content_of(page: Page) -> dict[str, Any]:
    start = page.html.index('id="content">') + len('id="content">')
    found: dict[str, Any] = json.loads(page.html[start : page.html.index("</script>", start)])
    return found


def test_page_holds_the_clips_that_all_have_and_names_nobody(page: Page) -> None:
    assert (page.clips, page.systems) == (2, 3)
    for word in ("alpha", "beta", TRUTH, ".mp4", "http:", "https:", "{{"):
        assert word not in page.html
    content = content_of(page)
    assert [len(group) for group in content["groups"]] == [3, 3]
    sources = {entry["source"] for group in content["groups"] for entry in group}
    assert len(sources) == 6
    assert all(source.startswith("data:video/mp4;base64,") for source in sources)
    tokens = [entry["token"] for group in content["groups"] for entry in group]
    assert set(tokens) == set(json.loads(page.key)["tokens"])
    assert all(group == sorted(group, key=lambda e: e["token"]) for group in content["groups"])


def ballot(page: Page, tmp_path: Path, person: str, orders: dict[str, list[str]]) -> Path:
    """What a person would export who ranks every clip in the same order, by criterion."""
    key = json.loads(page.key)
    votes = []
    for clip in ("x", "y"):
        tokens = {e["system"]: token for token, e in key["tokens"].items() if e["clip"] == clip}
        votes += [
            {"criterion": c, "order": [tokens[s] for s in order]} for c, order in orders.items()
        ]
    path = tmp_path / f"{person}.json"
    path.write_text(json.dumps({"page": key["page"], "format": 1, "votes": votes}))
    return path


def test_mean_ranks_are_those_by_hand(page: Page, tmp_path: Path) -> None:
    write_page(page, tmp_path / "page.html")
    key = key_path(tmp_path / "page.html")
    up, down = [TRUTH, "alpha", "beta"], ["alpha", TRUTH, "beta"]
    people = [
        ballot(page, tmp_path, "ann", dict.fromkeys(CRITERIA, up)),
        ballot(page, tmp_path, "bob", {**dict.fromkeys(CRITERIA, up), "sync": down}),
    ]
    alpha, beta, true = read_ranks(key, people)
    assert (alpha.system, beta.system, true.system) == ("alpha", "beta", TRUTH)
    assert alpha.ranks["sync"].value == 1.5
    assert alpha.ranks["visual"].value == 2
    assert beta.ranks["overall"].value == 3
    assert [row.scores["overall"].value for row in (alpha, beta, true)] == [3, 1, 5]
    assert (alpha.people, alpha.votes) == (2, 4)
    assert rank_rows([beta])[0][:4] == ("beta", "2", "1.00 [1.00, 1.00]", "3.00")


def test_ranks_lie_on_the_papers_scale() -> None:
    assert [score_of(rank, 6) for rank in (1, 6)] == [5, 1]
    assert score_of(2, 3) == 3


def test_ballots_that_are_wrong_are_refused(page: Page, tmp_path: Path) -> None:
    write_page(page, tmp_path / "page.html")
    key = key_path(tmp_path / "page.html")
    good = ballot(page, tmp_path, "ann", {"sync": [TRUTH, "alpha", "beta"]})
    facts = json.loads(good.read_text())

    def refused(match: str, **changed: Any) -> None:
        bad = tmp_path / "bad.json"
        bad.write_text(json.dumps({**facts, **changed}))
        with pytest.raises(ConfigError, match=match):
            read_ranks(key, [bad])

    refused("another page", page="0")
    refused("lacks its votes", votes=None)
    refused("can't be read", format=2)
    refused("hold no votes", votes=[])
    order = facts["votes"][0]["order"]
    other = facts["votes"][1]["order"]
    for wrong in (order[:2], [*order[:2], order[0]], [*order[:2], other[2]], ["?"], None):
        refused("no order", votes=[{"criterion": "sync", "order": wrong}])
    refused("no order", votes=[{"criterion": "taste", "order": order}])
    with pytest.raises(ConfigError, match="can't be read"):
        read_ranks(key, [tmp_path / "none.json"])


def test_pages_that_show_nothing_to_compare_are_refused(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, beta = folders["alpha"], folders["beta"]
    with pytest.raises(ConfigError, match="two systems or more"):
        make_page({"alpha": alpha}, None)
    (tmp_path / "gamma").mkdir()
    (tmp_path / "gamma" / "w.mp4").write_bytes(b"w")
    with pytest.raises(ConfigError, match="name their videos alike"):
        make_page({"alpha": alpha, "gamma": tmp_path / "gamma"}, None)
    (tmp_path / "gamma" / "x.avi").write_bytes(b"x")
    with pytest.raises(MediaError, match="not shown by browsers"):
        make_page({"alpha": alpha, "gamma": tmp_path / "gamma"}, None)
    monkeypatch.setattr("training.scoring.ranking.MOST_BYTES", 10)
    with pytest.raises(ConfigError, match="fewer clips"):
        make_page({"alpha": alpha, "beta": beta}, None)


def test_seed_decides_which_clips_are_drawn(folders: dict[str, Path]) -> None:
    def clips(seed: int) -> set[str]:
        page = make_page({s: folders[s] for s in ("alpha", "truth")}, None, clips=1, seed=seed)
        return {entry["clip"] for entry in json.loads(page.key)["tokens"].values()}

    assert clips(0) == clips(0)
    assert len(set.union(*map(clips, range(8)))) == 3
