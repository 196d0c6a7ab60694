from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from engine.errors import MediaError
from engine.media import probe
from tests.training.toys import FRAMES
from training.bench import pictures_of
from training.metrics import psnr
from training.scoring.codec import through_vp8

pytestmark = pytest.mark.media


def test_pictures_survive_in_number_and_suffer_more_at_a_lower_rate(
    toy_videos: Path, tmp_path: Path
) -> None:
    video = next((toy_videos / "ann").iterdir())
    real = list(pictures_of(video))
    alike = {}
    for kbps in (60, 300):
        coded = tmp_path / f"{kbps}.webm"
        through_vp8(video, coded, kbps)
        assert coded.stat().st_size * 8 < 1.3 * kbps * 1000 * FRAMES / 25
        seen = list(pictures_of(coded))
        assert len(seen) == FRAMES
        alike[kbps] = np.mean([psnr(a, b) for a, b in zip(seen, real, strict=True)])
    assert 25 < alike[60] < alike[300] - 1


def test_odd_sizes_lose_their_last_line(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (51, 65, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        track: Any = container.add_stream("ffv1", rate=25)
        track.width, track.height, track.pix_fmt = 65, 51, "bgr0"
        for number in range(3):
            frame = VideoFrame.from_ndarray(noise, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(track.encode(frame))
        container.mux(track.encode())
    through_vp8(tmp_path / "odd.mkv", tmp_path / "odd.webm", 500)
    info = probe(tmp_path / "odd.webm")
    assert (info.width, info.height) == (64, 50)


def test_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no film")
    with pytest.raises(MediaError):
        through_vp8(tmp_path / "no.mp4", tmp_path / "no.webm", 300)
