"""Picture and sound leave together: measured from outside, by flashes and clicks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stream.flash_click import measure
from tests.stream.pulse import Pulse, running_pulse

pytestmark = pytest.mark.devices

pulse = running_pulse
ROOT = Path(__file__).resolve().parents[2]
MOST_S = 0.045  # ITU-R BT.1359: from here on sound that is early is noticed


def program(*words: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.stream.flash_session", *words],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_flash_and_click_are_together_in_a_recording(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    program("recording", str(out))
    found = measure(out)
    assert len(found) >= 7
    assert sorted(map(abs, found))[-2] <= MOST_S, found


def test_flash_and_click_are_together_at_the_virtual_camera_and_microphone(pulse: Pulse) -> None:
    for _ in range(3):
        facts = json.loads(program("devices", environment=pulse.environment))
        if facts["late_ratio"] <= 0.01:
            break
    else:
        pytest.skip(f"this computer is too busy: {facts['late_ratio']:.0%} of the pictures late")
    outside = facts["outside"]
    assert len(outside) >= 4
    assert sorted(map(abs, outside))[-2] <= MOST_S, outside
    assert facts["inside_ms"]["p50"] <= 45
