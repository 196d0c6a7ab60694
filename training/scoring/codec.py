"""What the other side of a call sees: a video after VP8 at a call's bit rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.video.frame import VideoFrame

from engine.errors import MediaError
from training.bench import pictures_of
from training.clips import FPS

# As a call's sender sets libvpx: no look-ahead, quick, at a steady rate. The speed is fixed at 6; a
# positive one would change with how busy the machine is.
_OPTIONS: Final = {
    "deadline": "realtime",
    "cpu-used": "-6",
    "threads": "1",
    "lag-in-frames": "0",
    "error-resilient": "1",
    "undershoot-pct": "95",
}
_BUFFER_S: Final = Fraction(1, 2)


def through_vp8(video: Path, out: Path, kbps: int) -> None:
    """Encode a video's pictures once more; the sound is left out.

    Args:
        video: any video; its pictures are taken at 25 frames a second.
        out: the WebM file to write.
        kbps: kilobits a second of the pictures.

    Raises:
        MediaError: the video can't be read, or its pictures not be encoded at this rate.
    """
    try:
        with av.open(str(out), "w", format="webm") as container:
            track: Any = None
            for number, picture in enumerate(pictures_of(video)):
                height, width = (side - side % 2 for side in picture.shape[:2])
                if track is None:
                    options = {**_OPTIONS, "bufsize": str(int(kbps * 1000 * _BUFFER_S))}
                    track = container.add_stream("libvpx", rate=FPS, options=options)
                    track.width, track.height, track.pix_fmt = width, height, "yuv420p"
                    track.bit_rate = track.codec_context.bit_rate_tolerance = kbps * 1000
                    track.codec_context.gop_size = 3000
                rgb = np.ascontiguousarray(picture[:height, :width])
                frame = VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(track.encode(frame))
            if track is None:
                raise MediaError(f"{video} holds no picture; choose another video.")
            container.mux(track.encode())
    except (av.FFmpegError, OSError) as error:
        raise MediaError(
            f"{video.name} can't be encoded as VP8 at {kbps} kbit/s ({error}); name another rate."
        ) from error
