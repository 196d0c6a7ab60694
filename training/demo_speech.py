"""Make the demo's built-in speech: ``python -m training.demo_speech OUT_FOLDER``.

Writes ``demo_speech.flac`` (22 050 Hz, mono, 16 bit) and ``demo_speech.json`` (its phonemes).
"""

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from engine.errors import LipstreamError, MediaError
from engine.phonemes import SILENCE, PhonemeSpan, save_spans
from training.synthesis import speak

VOICE = "en-us+f2"  # of espeak-ng's women the one nearest to a natural pitch (190 Hz) and timbre
RATE_WPM = 158
PITCH = 48
LEAD_S = 0.5

#: What is said, each sentence with the pause after it in seconds.
SCRIPT = (
    ("This is a modified picture of a real person.", 0.65),
    ("Her lips follow this voice, sound by sound.", 0.65),
    ("When the voice pauses, her mouth closes.", 0.8),
    ("Now open your camera, and try it yourself.", 0.7),
)
_PEAK = 0.7
_FADE_S = 0.012


def make() -> tuple[NDArray[np.float32], int, list[PhonemeSpan]]:
    """Speak the script.

    Returns:
        Mono float32 samples in [-1, 1]; their rate in Hz; the phonemes and pauses covering them.

    Raises:
        ConfigError: espeak-ng is missing.
    """
    pieces: list[NDArray[np.float32]] = []
    spans: list[PhonemeSpan] = []
    done = 0
    rate = 0

    def pause(seconds: float) -> None:
        nonlocal done
        length = round(seconds * rate)
        pieces.append(np.zeros(length, np.float32))
        spans.append(PhonemeSpan(done / rate, (done + length) / rate, SILENCE))
        done += length

    for text, pause_s in SCRIPT:
        samples, rate, said = speak(text, VOICE, rate_wpm=RATE_WPM, pitch=PITCH)
        if not pieces:
            pause(LEAD_S)
        spoken = [i for i, span in enumerate(said) if not span.silent]
        said = said[spoken[0] : spoken[-1] + 1]
        first, last = round(said[0].start_s * rate), round(said[-1].end_s * rate)
        pieces.append(_faded(samples[first:last], round(_FADE_S * rate)))
        for span in said:
            a, b = round(span.start_s * rate) - first, round(span.end_s * rate) - first
            spans.append(PhonemeSpan((done + a) / rate, (done + b) / rate, span.symbol))
        done += last - first
        pause(pause_s)

    speech = np.concatenate(pieces)
    return speech * np.float32(_PEAK / np.abs(speech).max()), rate, spans


def _faded(samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    ramp = np.linspace(0.0, 1.0, length, dtype=np.float32)
    faded = samples.copy()
    faded[:length] *= ramp
    faded[-length:] *= ramp[::-1]
    return faded


def write(folder: str | Path) -> tuple[Path, Path]:
    """Make the speech and its phonemes; the same espeak-ng gives the same in a fresh process.

    Args:
        folder: where to write; made if missing.

    Returns:
        The FLAC file and the JSON file.

    Raises:
        ConfigError: espeak-ng is missing.
        MediaError: the folder can't be written.
    """
    samples, rate, spans = make()
    sound, times = Path(folder) / "demo_speech.flac", Path(folder) / "demo_speech.json"
    try:
        sound.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(sound), "w", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("flac", rate=rate, options={"compression_level": "12"})
            stream.codec_context.layout = "mono"
            stream.codec_context.format = "s16"
            frame = av.AudioFrame.from_ndarray(
                np.rint(samples * 32767.0).astype(np.int16)[None], format="s16", layout="mono"
            )
            frame.sample_rate = rate
            frame.time_base = Fraction(1, rate)
            frame.pts = 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except OSError as error:
        raise MediaError(
            f"the demo's speech can't be written to {folder} ({error.strerror}):"
            " choose a folder that is writable"
        ) from error
    save_spans(times, spans)
    return sound, times


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line without the program; ``None`` takes the process's own.

    Returns:
        The exit status: 0, or 2 where the user must do something first.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training.demo_speech", description="Make the demo's built-in speech."
    )
    parser.add_argument("folder", help="where demo_speech.flac and demo_speech.json go")
    chosen = parser.parse_args(arguments)
    try:
        sound, times = write(chosen.folder)
    except LipstreamError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{sound}\n{times}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
