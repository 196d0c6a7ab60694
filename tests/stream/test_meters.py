"""What is measured: quantiles, skew, and the counters of a session."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from stream.core.histogram import Quantiles
from stream.core.meters import Meters
from stream.core.series import Moment, Series
from stream.core.skew import SkewMeter

pytestmark = pytest.mark.unit


# Quantiles


@pytest.mark.parametrize("q", [0.0, 0.01, 0.5, 0.95, 0.99, 1.0])
def test_quantiles_are_exact_to_a_step(q: float) -> None:
    values = np.random.default_rng(1).gamma(2.0, 30.0, 5000)
    quantiles = Quantiles(0, 1000, 0.5)
    for value in values:
        quantiles.add(float(value))
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    found = quantiles.quantile(q)
    assert found is not None
    assert abs(found - exact) <= 0.5


def test_values_beyond_the_bins_are_kept_as_the_least_and_the_largest() -> None:
    quantiles = Quantiles(-10, 10, 1)
    for value in (-500.0, 0.2, 700.0):
        quantiles.add(value)
    assert quantiles.quantile(0.1) == -500
    assert quantiles.quantile(1.0) == 700
    assert quantiles.max == 700
    assert quantiles.count == 3


def test_a_quantile_is_never_beyond_the_values() -> None:
    quantiles = Quantiles(0, 100, 10)
    quantiles.add(1.0)
    assert quantiles.quantile(0.5) == 1.0


def test_without_values_there_is_no_quantile() -> None:
    quantiles = Quantiles(0, 1, 0.1)
    quantiles.add(math.nan)
    quantiles.add(math.inf)
    assert (quantiles.count, quantiles.quantile(0.5), quantiles.max) == (0, None, None)
    quantiles.add(0.5)
    quantiles.reset()
    assert (quantiles.count, quantiles.quantile(0.5), quantiles.max) == (0, None, None)


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_no_quantile_beyond_0_and_1(q: float) -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        Quantiles(0, 1, 0.1).quantile(q)


# Skew


def test_skew_is_positive_where_the_sound_is_late() -> None:
    meter = SkewMeter()
    meter.sound_left(content_s=10.0, at=10.43)  # held 30 ms longer than the picture below
    skew_s = meter.picture_left(content_s=10.05, at=10.45)
    assert skew_s == pytest.approx(0.03)
    meter.sound_left(content_s=11.0, at=11.4)
    assert meter.picture_left(content_s=11.0, at=11.45) == pytest.approx(-0.05)
    assert meter.sizes_ms()["max"] == pytest.approx(50.0)
    assert meter.signed_p50_ms == pytest.approx(-50.0, abs=0.5)


def test_the_latest_report_counts() -> None:
    meter = SkewMeter()
    meter.sound_left(1.0, 1.5)
    meter.sound_left(1.1, 1.5)
    assert meter.picture_left(1.1, 1.5) == pytest.approx(0.0)


def test_a_trim_that_the_user_asked_for_is_no_skew() -> None:
    meter = SkewMeter()
    meter.intended_s = -0.2  # the picture is to leave 200 ms after its sound
    meter.sound_left(1.0, 1.4)
    assert meter.picture_left(1.0, 1.6) == pytest.approx(0.0)


def test_without_recent_sound_nothing_is_measured() -> None:
    meter = SkewMeter()
    assert meter.picture_left(0.0, 0.4) is None
    meter.sound_left(1.0, 1.4)
    assert meter.picture_left(2.1, 2.5) is None
    assert meter.now_ms is None
    assert meter.sizes_ms() == {"p50": None, "p95": None, "max": None}
    assert meter.picture_left(1.9, 2.3) == pytest.approx(0.0)


def test_skew_of_now_forgets_what_is_long_ago() -> None:
    meter = SkewMeter()
    for number in range(200):
        meter.sound_left(number * 0.04, number * 0.04 + 0.4)
        late_s = 0.3 if number < 100 else 0.01
        meter.picture_left(number * 0.04 + late_s, number * 0.04 + 0.4)
    assert meter.now_ms == pytest.approx(10)
    assert meter.sizes_ms()["p95"] == pytest.approx(300, abs=0.5)


def test_taken_skews_are_given_once() -> None:
    meter = SkewMeter()
    meter.sound_left(0.0, 0.4)
    meter.picture_left(0.01, 0.4)
    assert meter.take() == [pytest.approx(0.01)]
    assert meter.take() == []


# The series


def test_a_series_stays_bounded_and_keeps_the_whole_session() -> None:
    series = Series(most=8)
    for second in range(1, 101):
        series.add(
            Moment(
                at=float(second),
                fps=20.0 if second % 2 else 30.0,
                skew_ms=90.0 if second == 37 else 5.0,
                case="speech" if 16 < second <= 48 else "real",
                rss_mb=None if second < 50 else 100.0,
            )
        )
        assert len(series.moments()) <= 8
    moments = series.moments()
    assert moments[-1].at == 100
    assert [m.at for m in moments] == sorted(m.at for m in moments)
    assert [m.fps for m in moments] == [pytest.approx(25.0)] * len(moments)
    assert [m.at for m in moments if m.skew_ms == 90.0] == [48.0]
    assert [m.case for m in moments][:4] == ["real", "speech", "speech", "real"]
    assert (moments[0].rss_mb, moments[-1].rss_mb) == (None, 100.0)
    assert moments[0].added_delay_ms is None


# The meters


def growing(start_mb: float, mb_per_min: float) -> Iterator[float]:
    second = 0
    while True:
        yield start_mb + (50.0 if second < 10 else 0.0) + mb_per_min * second / 60
        second += 1


def a_minute(meters: Meters) -> None:
    """25 pictures a second for 60 s: speech, but closed in the last 20 s; some go wrong."""
    for number in range(1500):
        now = 0.4 + number / 25
        if number % 25 == 0:
            meters.tick(float(number // 25))
        case = "speech" if number < 1000 else "closed"
        meters.frame_in()
        meters.gate(case, 0.04)
        meters.stage("generate", 0.012)
        if number % 100 == 99:
            meters.dropped("late")
        elif number % 100 == 50:
            meters.shown("passthrough", "turned", late_s=0.0, case=case, now=now)
        else:
            late_s = 0.03 if number % 100 == 7 else 0.001
            meters.shown("generated", None, late_s=late_s, case=case, now=now)
        meters.added_delay(0.42 if number % 10 else 0.45)
        meters.skew.sound_left(now - 0.4, now)
        meters.skew.picture_left(now - 0.39, now)
    meters.tick(60.0)


def test_a_report_counts_every_picture_once() -> None:
    meters = Meters()
    a_minute(meters)
    report = meters.report(60.4, backend="OpenVINO", bundle="starter")
    assert report.frames == {
        "in": 1500,
        "out": 1485,
        "generated": 1470,
        "dropped": 15,
        "repeated": 0,
        "passthrough": 15,
    }
    assert report.frames_by_reason == {
        "dropped": {"late": 15},
        "passthrough": {"turned": 15},
        "repeated": {},
    }
    assert report.shown_fps == pytest.approx(1485 / 60, rel=1e-3)
    assert report.late_ratio == pytest.approx(30 / 1500)
    assert report.generated_share == {
        "real": None,
        "speech": pytest.approx(980 / 990),
        "closed": pytest.approx(490 / 495),
    }
    assert report.gate_s == {"real": 0.0, "speech": pytest.approx(40), "closed": pytest.approx(20)}
    assert report.added_delay_ms == {
        "p50": pytest.approx(420, abs=1),
        "p95": pytest.approx(450, abs=1),
        "p99": pytest.approx(450, abs=1),
    }
    assert report.skew_ms == {"p50": pytest.approx(10, abs=0.5)} | dict.fromkeys(
        ("p95", "max"), pytest.approx(10, abs=0.5)
    )
    assert report.stages_ms["generate"]["p99"] == pytest.approx(12, abs=0.2)
    assert report.stages_ms["track"] == {"p50": None, "p95": None, "p99": None}
    assert (report.backend, report.bundle) == ("OpenVINO", "starter")


def test_late_means_later_than_half_a_frame() -> None:
    meters = Meters()
    for late_s in (0.0, 0.019, 0.021, 0.5):
        meters.shown("generated", None, late_s=late_s, case="speech", now=1.0)
    assert meters.report(2.0, backend="", bundle="").late_ratio == pytest.approx(0.5)


def test_cards_and_repeats_are_no_new_pictures() -> None:
    meters = Meters()
    meters.shown("card", None, late_s=0.0, case=None, now=1.0)
    for number in range(51):
        meters.shown("passthrough", "quiet", late_s=0.0, case="real", now=3 + number / 25)
    for number in range(9):
        meters.shown("card", None, late_s=0.0, case=None, now=5.2 + number / 5)
    meters.shown("repeated", None, late_s=0.0, case=None, now=7.0)
    report = meters.report(7.0, backend="", bundle="")
    assert report.shown_fps == pytest.approx(50 / 4.0)
    assert report.frames["out"] == 62
    assert report.frames_by_reason["repeated"] == {"card": 10, "gap": 1}
    assert report.late_ratio == 0.0
    assert report.generated_share["real"] == 0.0


def test_a_picture_out_of_order_was_never_due() -> None:
    meters = Meters()
    meters.shown("generated", None, late_s=0.0, case="speech", now=1.0)
    meters.dropped("order")
    report = meters.report(2.0, backend="", bundle="")
    assert (report.late_ratio, report.frames["dropped"]) == (0.0, 1)


def test_pictures_that_stopped_pull_the_rate_down() -> None:
    meters = Meters()
    for number in range(26):
        meters.shown("generated", None, late_s=0.0, case="speech", now=number / 25)
    for second in range(11):
        meters.tick(float(second))
    assert meters.report(10.0, backend="", bundle="").shown_fps == pytest.approx(2.5)


def test_memory_is_judged_once_the_session_has_settled() -> None:
    sizes = growing(300.0, mb_per_min=6.0)
    meters = Meters(resident_mb=lambda: next(sizes))
    a_minute(meters)
    report = meters.report(60.4, backend="", bundle="")
    assert report.rss_mb == {
        "start": pytest.approx(301.0),
        "middle": pytest.approx(303.5),
        "end": pytest.approx(306.0),
    }
    assert report.rss_slope_mb_per_min == pytest.approx(6.0)


def test_a_short_session_has_memory_but_no_slope() -> None:
    sizes = iter([10.0, 20.0, 30.0])
    meters = Meters(resident_mb=lambda: next(sizes))
    for second in range(3):
        meters.tick(float(second))
        meters.tick(second + 0.1)  # too soon: not another sample
    report = meters.report(3.0, backend="", bundle="")
    assert report.rss_mb == {"start": 10.0, "middle": 20.0, "end": 30.0}
    assert report.rss_slope_mb_per_min is None


def test_an_empty_session_reports_nothing_instead_of_failing() -> None:
    report = Meters().report(0.0, backend="", bundle="")
    assert report.shown_fps is None
    assert report.late_ratio is None
    assert report.rss_mb == {"start": None, "middle": None, "end": None}
    assert set(report.frames.values()) == {0}


def test_the_series_holds_each_second_by_itself() -> None:
    meters = Meters(resident_mb=lambda: 200.0)
    a_minute(meters)
    moments = meters.series()
    assert [m.at for m in moments] == [float(second) for second in range(61)]
    assert moments[5].fps == pytest.approx(25, abs=1)
    assert moments[5].added_delay_ms == pytest.approx(450)
    assert moments[5].skew_ms == pytest.approx(10, abs=0.5)
    assert (moments[10].case, moments[50].case) == ("speech", "closed")
    assert moments[30].rss_mb == 200.0


def test_a_snapshot_shows_the_last_seconds() -> None:
    meters = Meters()
    a_minute(meters)
    meters.shown("passthrough", "occluded", late_s=0.0, case="closed", now=60.4)
    for _ in range(60):
        meters.stage("generate", 0.02)
    now = meters.snapshot(60.4)
    assert now["fps"] == pytest.approx(25, abs=1)
    assert now["added_delay_ms"]["total"] == pytest.approx(420)
    assert now["added_delay_ms"]["stages"]["generate"] == pytest.approx(20)
    assert now["added_delay_ms"]["stages"]["track"] is None
    assert now["skew_ms"] == pytest.approx(10)
    assert (now["gate"], now["passthrough_reason"]) == ("closed", "occluded")
    assert now["frames"]["generated"] == 1470
    meters.shown("generated", None, late_s=0.0, case="speech", now=60.44)
    assert meters.snapshot(60.44)["passthrough_reason"] is None
    assert meters.snapshot(70.0)["fps"] == 0


def test_sinks_say_what_they_did_when_the_report_is_made() -> None:
    meters = Meters()
    facts = {"pictures": 1}
    meters.sink("recording", lambda: facts)
    facts["pictures"] = 1500
    assert meters.report(1.0, backend="", bundle="").sinks == {"recording": {"pictures": 1500}}


def test_an_unknown_stage_or_case_is_a_mistake_of_the_caller() -> None:
    meters = Meters()
    with pytest.raises(KeyError):
        meters.stage("cook", 0.1)
    with pytest.raises(KeyError):
        meters.gate("ajar", 0.1)
