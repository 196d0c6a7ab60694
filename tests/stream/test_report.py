"""The report of a session, as JSON, as a table and as a picture."""

import importlib.util
import json
import math
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from engine.errors import ConfigError, MediaError
from engine.media import read_image
from stream.core.meters import Meters
from stream.core.series import Moment
from stream.report import CASES, STAGES, Report, resident_mb
from stream.report_plot import check_plot, plot

pytestmark = pytest.mark.unit

NEEDED = {
    "shown_fps",
    "late_ratio",
    "added_delay_ms",
    "skew_ms",
    "stages_ms",
    "frames",
    "generated_share",
    "gate_s",
    "rss_mb",
    "backend",
    "bundle",
}


def a_report() -> Report:
    meters = Meters(resident_mb=lambda: 312.34567)
    meters.skew_source = "recording"
    meters.skew.sound_left(0.0, 0.4)
    for number in range(51):
        meters.frame_in()
        meters.shown("generated", None, late_s=0.0, case="speech", now=0.4 + number / 25)
        meters.skew.picture_left(number / 25 + 0.012345, 0.4 + number / 25)
    meters.stage("generate", 0.0123456)
    meters.gate("speech", 2.03999)
    meters.added_delay(0.41)
    meters.dropped("late")
    meters.tick(0.0)
    meters.sink("recording", lambda: {"holes": 0, "sound_s": math.nan})
    return meters.report(2.44444, backend="OpenVINO 2026.2 CPU", bundle="starter")


def test_the_json_has_the_promised_keys_and_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    a_report().write(path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads(path.read_text(), parse_constant=refuse)
    assert set(found) > NEEDED
    assert set(found["added_delay_ms"]) == {"p50", "p95", "p99"}
    assert set(found["skew_ms"]) == {"p50", "p95", "max"}
    assert set(found["stages_ms"]) == set(STAGES)
    assert set(found["stages_ms"]["generate"]) == {"p50", "p95", "p99"}
    assert set(found["frames"]) == {
        "in",
        "out",
        "generated",
        "dropped",
        "repeated",
        "passthrough",
    }
    assert {type(count) for count in found["frames"].values()} == {int}
    assert set(found["generated_share"]) == set(found["gate_s"]) == set(CASES)
    assert set(found["rss_mb"]) == {"start", "middle", "end"}
    assert found["sinks"] == {"recording": {"holes": 0, "sound_s": None}}
    assert (found["shown_fps"], found["gate_s"]["speech"]) == (25.0, 2.04)
    assert found["rss_mb"]["start"] == 312.3
    assert found["skew_ms"]["max"] == 12.3
    assert list(tmp_path.iterdir()) == [path]


def test_every_key_of_the_report_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    found = a_report().to_dict()
    missing = [key for key in found if f"`{key}`" not in page]
    missing += [name for name in (*STAGES, *CASES, *found["frames"]) if f"`{name}`" not in page]
    assert not missing


def test_a_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="check its folder"):
        a_report().write(tmp_path / "none" / "r.json")


def test_the_table_tells_the_figures_that_matter() -> None:
    console = Console(width=160, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(a_report().table())
        text = console.export_text()
    for part in ("25.0 a second", "51 generated", "100.0 % of the pictures", "95 % within 410 ms"):
        assert part in text
    assert "starter, OpenVINO 2026.2 CPU" in text
    assert "dropped why" in text
    assert "late 1" in text


def test_the_table_of_an_empty_session_has_dashes() -> None:
    lines = Meters().report(0.0, backend="", bundle="").table()
    assert lines.row_count == 7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_grows_by_what_is_filled() -> None:
    before = resident_mb()
    with mmap.mmap(-1, 60_000_000) as fresh:  # pages that nothing has used before
        np.frombuffer(fresh, np.uint8)[:] = 1
        after = resident_mb()
    assert before is not None
    assert after is not None
    assert 50 < after - before < 90


def moments() -> list[Moment]:
    rising = [
        Moment(
            at=float(second),
            fps=25.0 if second % 7 else 24.0,
            added_delay_ms=None if second < 2 else 400.0 + 20 * (second > 30),
            skew_ms=None if second < 2 else 8.0 + 6 * math.sin(second / 3),
            case=None if second == 0 else CASES[second // 12 % 3],
            rss_mb=420 + second / 60,
        )
        for second in range(61)
    ]
    return rising


def test_a_plot_shows_the_gate_and_the_lines(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "session.png"
    plot(moments(), path)
    picture = read_image(path).astype(int)
    height, width = picture.shape[:2]
    assert (height, width) == (880, 1210)
    for colour in ((217, 221, 227), (191, 227, 199), (246, 217, 168)):  # the gate's three cases
        share = (np.abs(picture - colour).max(axis=2) <= 1).mean()
        assert 0.05 < share < 0.5
    assert (np.abs(picture - (27, 79, 156)).max(axis=2) < 12).sum() > 500  # the delay's line
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("some", [[], [Moment(at=0.0)], [Moment(at=1.0, fps=0.0, case="real")]])
def test_a_session_with_next_to_nothing_can_be_drawn(tmp_path: Path, some: list[Moment]) -> None:
    pytest.importorskip("matplotlib")
    plot(some, tmp_path / "session.png")
    assert (tmp_path / "session.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "message"),
    [("none/p.png", "does not exist; create it"), ("p.jpg", "ending in .png")],
)
def test_a_plot_that_cannot_be_drawn_is_known_before(
    tmp_path: Path, name: str, message: str
) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ConfigError, match=message):
        check_plot(tmp_path / name)


def test_without_matplotlib_a_plot_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install matplotlib"):
        plot([], tmp_path / "p.png")
