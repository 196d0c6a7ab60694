"""What anyone sees first: the demo, with the bundle that comes with the program."""

import json
from pathlib import Path

import numpy as np
import pytest

import run_stream
from engine.bundle import STARTER, load_bundle
from stream.demo import SPEECH_FILE
from training.bench import CLOSED, judge_speech
from training.metrics import LAG_REACH

pytestmark = pytest.mark.models


def test_the_starter_is_whole_small_and_comes_with_its_card() -> None:
    bundle = load_bundle()
    files = [path for path in STARTER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20e6
    assert (STARTER / "MODEL_CARD.md").is_file()
    assert bundle.weights.licence
    assert bundle.weights.training_data


def test_the_lips_of_the_demo_follow_its_speech(tmp_path: Path) -> None:
    out, report = tmp_path / "demo.mp4", tmp_path / "demo.json"
    assert run_stream.main(["demo", "--record", str(out), "--report", str(report)]) == 0
    found = json.loads(report.read_text())
    assert found["modified_frames"] == found["frames"] == 351
    figures = judge_speech(out, SPEECH_FILE.with_suffix(".json"))
    assert figures.lost == 0
    assert figures.curve[LAG_REACH] >= 0.4
    assert abs(int(np.argmax(figures.curve)) - LAG_REACH) <= 1
    assert figures.closed_share >= 0.9, f"open more than {CLOSED} in {figures.pause_frames} frames"
