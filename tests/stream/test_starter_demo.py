"""What anyone sees first: the demo, with the bundle that comes with the program."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import run_stream
from engine.bundle import STARTER, load_bundle
from engine.dub import dub_source
from engine.face_models import FaceModels
from engine.lips import correlation
from engine.media import VideoReader, retime
from engine.phonemes import load_spans, opening_of
from engine.sources import Speech
from stream.demo import SPEECH_FILE, speaker
from training.bench import CLOSED, judge_speech, openings
from training.metrics import LAG_REACH

pytestmark = pytest.mark.models


def test_the_starter_is_whole_small_and_comes_with_its_card() -> None:
    bundle = load_bundle()
    sizes = {path.name: path.stat().st_size for path in STARTER.rglob("*") if path.is_file()}
    expert = sum(size for name, size in sizes.items() if name.startswith("expert-"))
    assert sum(sizes.values()) - expert <= 20e6
    assert expert <= 12e6
    assert bundle.expert is not None
    assert bundle.expert.weights.training_data
    assert (STARTER / "MODEL_CARD.md").is_file()
    assert bundle.weights.licence
    assert bundle.weights.training_data


def test_the_lips_of_the_speaker_follow_its_speech(tmp_path: Path) -> None:
    out = tmp_path / "demo.mp4"
    report = dub_source(speaker(), Speech(SPEECH_FILE), out, bundle=load_bundle())
    assert report.modified_frames == report.frames == 351
    figures = judge_speech(out, SPEECH_FILE.with_suffix(".json"))
    assert figures.lost == 0
    assert figures.curve[LAG_REACH] >= 0.4
    assert abs(int(np.argmax(figures.curve)) - LAG_REACH) <= 1
    assert figures.closed_share >= 0.9, f"open more than {CLOSED} in {figures.pause_frames} frames"


@pytest.mark.timeout(90)
def test_the_live_demo_paints_speech_and_its_lips_follow(tmp_path: Path) -> None:
    out, report = tmp_path / "demo.mp4", tmp_path / "demo.json"
    words = ["demo", "--no-page", "--seconds", "12", "--record", str(out), "--report", str(report)]
    assert run_stream.main(words) == 0
    found = json.loads(report.read_text())
    assert found["frames"]["in"] >= 12 * 24
    # A busy computer may pass pictures through; it must not show wrong lips for that.
    assert found["generated_share"]["speech"] >= 0.5
    pictures = list(retime(VideoReader(out), Fraction(25)))
    seen, lost = openings(iter(pictures), FaceModels(threads=1))
    assert lost == 0
    delay_s = found["added_delay_ms"]["p50"] / 1000
    spans = load_spans(SPEECH_FILE.with_suffix(".json"))
    times = (np.arange(len(seen)) + 0.5) / 25 - delay_s
    spoken = (times > 0) & (times < 11.5)
    assert correlation(opening_of(spans, times[spoken]), seen[spoken]) >= 0.4


def test_a_live_demo_says_what_its_recording_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stream.main(["demo", "--no-page", "--record", str(tmp_path / "demo.avi")]) == 2
    assert "name a file ending in .mp4" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
