"""The figures of an evaluation as tables for people and as JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from training.bench import (
    APART_S,
    CLOSED,
    PAUSE_MARGIN_S,
    ClipFigures,
    Likeness,
    PairFigures,
    SpeechFigures,
    mean_likeness,
)
from training.clips import FPS
from training.evaluate import Report
from training.leakage import AROUND, MOVING, OPEN, LeakFigures
from training.metrics import LAG_REACH, PSNR_CAP_DB, SSIM_SETTINGS, best_lag
from training.tables import Rows, print_line, show_table, write_values

SETTINGS = {
    "fps": FPS,
    "opening": "inner-lip distance over inter-ocular distance, of the face mesh",
    "correlation": "Pearson's; the plain mean over pairs",
    "best lag": f"frames, the top of the mean curve within {LAG_REACH}; positive is late",
    "amplitude": "standard deviation of the generated opening over the real one's; mean over pairs",
    "psnr": f"dB, mean over frames, identical frames count {PSNR_CAP_DB:.0f}; RGB crops",
    "ssim": ", ".join(f"{name}={value}" for name, value in SSIM_SETTINGS.items()) + "; RGB crops",
    "lower half": "the lower half of the crop's rows, on its own",
    "self-reconstruction": f"frames {APART_S:g} s or more from the identity reference",
    "closed": CLOSED,
    "leakage": f"driven by digital silence; open: opening above {OPEN}; moves: opening spans more"
    f" than {MOVING} within {AROUND} frames; following: correlation with the mouth that came in",
    "pauses": f"of 0.2 s or more, less {PAUSE_MARGIN_S * 1000:.0f} ms at both ends",
    "codec": "none: pictures as they leave the chain; a finished video as it is",
}
"""What the figures mean."""


def _sync_summary(pairs: Sequence[PairFigures]) -> dict[str, Any]:
    curve = np.mean([pair.curve for pair in pairs], axis=0)
    lag, top = best_lag(curve)
    at_zero = [pair.curve[LAG_REACH] for pair in pairs]
    return {
        "pairs": len(pairs),
        "correlation": float(np.mean(at_zero)),
        "lowest_correlation": float(np.min(at_zero)),
        "best_lag_frames": lag,
        "best_lag_correlation": top,
        "amplitude": float(np.mean([pair.amplitude for pair in pairs])),
        "lost_frames": sum(pair.lost for pair in pairs),
        "unrelated_correlation": float(np.mean([pair.unrelated for pair in pairs])),
        "mean_curve": curve.tolist(),
    }


def _likeness(clips: Sequence[ClipFigures], *, copied: bool) -> Likeness:
    weights = [clip.frames for clip in clips]
    return mean_likeness([clip.copied if copied else clip.made for clip in clips], weights)


def sync_rows(report: Report) -> Rows:
    """The rows of the table of lips that follow, and their floor."""
    rows: Rows = []
    for name, pairs in report.pairs.items():
        if not pairs:
            rows.append((name, "0", *("-",) * 5))
            continue
        s = _sync_summary(pairs)
        best = f"{s['best_lag_frames']:+d}", f"{s['best_lag_correlation']:.3f}"
        figures = f"{s['correlation']:.3f}", f"{s['lowest_correlation']:.3f}", *best
        rows.append((name, str(s["pairs"]), *figures, f"{s['amplitude']:.2f}"))
    first = next(iter(report.pairs.values()))
    if first:
        floor = _sync_summary(first)["unrelated_correlation"]
        name = f"floor: unrelated clip of {report.speaker}"
        rows.append((name, str(len(first)), f"{floor:.3f}", *("-",) * 4))
    return rows


def likeness_rows(report: Report) -> Rows:
    """The rows of the table of self-reconstruction, each above its floor."""
    rows: Rows = []
    for name, clips in report.clips.items():
        if not clips:
            rows.append((name, "0", *("-",) * 4))
            continue
        frames = str(sum(clip.frames for clip in clips))
        for label, copied in ((name, False), ("floor: the reference copied", True)):
            likeness = _likeness(clips, copied=copied)
            decibels = f"{likeness.psnr:.2f}", f"{likeness.psnr_lower:.2f}"
            rows.append(
                (label, frames, *decibels, f"{likeness.ssim:.4f}", f"{likeness.ssim_lower:.4f}")
            )
    return rows


def speech_rows(speech: SpeechFigures) -> Rows:
    """The one row of the table of a finished video."""
    lag, top = best_lag(np.array(speech.curve))
    follows = f"{speech.curve[LAG_REACH]:.3f}", f"{lag:+d}", f"{top:.3f}"
    pauses = f"{100 * speech.closed_share:.1f} %", f"{speech.pause_median:.3f}"
    frames = str(speech.frames), *follows, str(speech.pause_frames)
    return [(speech.video, *frames, *pauses, f"{speech.pause_max:.3f}")]


def leak_rows(report: Report) -> Rows:
    """The rows of the table of faces driven by silence."""
    rows: Rows = []
    for name, faces in report.leaks.items():
        if not faces:
            rows.append((name, "0", *("-",) * 6))
            continue
        s = _leak_summary(faces)
        shares = (f"{100 * s[key]:.1f} %" for key in _SHARES)
        frames = str(s["frames"])
        rows.append((name, str(len(faces)), frames, *shares, f"{s['following']:.3f}"))
    return rows


_SHARES = ("open_share", "moving_share", "real_open_share", "real_moving_share")


def _leak_summary(faces: Sequence[LeakFigures]) -> dict[str, Any]:
    weights = [face.frames for face in faces]
    shares = {
        key: float(np.average([getattr(face, key) for face in faces], weights=weights))
        for key in _SHARES
    }
    following = float(np.mean([face.following for face in faces]))
    return {"faces": len(faces), "frames": sum(weights), **shares, "following": following}


def show(report: Report, console: Console) -> None:
    """Print the tables: drawn on a terminal, as plain aligned text elsewhere."""
    show_table(
        console,
        "Lips that follow",
        ("", "pairs", "correlation", "lowest", "best lag", "there", "amplitude"),
        sync_rows(report),
    )
    show_table(
        console,
        "Self-reconstruction",
        ("", "frames", "PSNR", "PSNR lower", "SSIM", "SSIM lower"),
        likeness_rows(report),
    )
    if report.leaks:
        shares = "open", "moves", "really open", "really moves", "following"
        rows = leak_rows(report)
        show_table(console, "Driven by silence", ("", "clips", "frames", *shares), rows)
    if report.speech is not None:
        heads = ("correlation", "best lag", "there", "in pauses", "closed", "median", "max")
        rows = speech_rows(report.speech)
        show_table(console, "Speech and its phoneme times", ("", "frames", *heads), rows)
    for failed in report.failed:
        print_line(console, f"left out {failed.clips}: {failed.reason}")
    for name, value in SETTINGS.items():
        print_line(console, f"{name}: {value}")
    print_line(console, f"bundle: {report.bundle}, SHA-256 {report.bundle_sha256}")


def to_json(report: Report) -> dict[str, Any]:
    """All figures and settings as JSON can hold them; what has no value is null."""
    return {
        "bundle": report.bundle,
        "bundle_sha256": report.bundle_sha256,
        "speaker": report.speaker,
        "seed": report.seed,
        "settings": SETTINGS,
        "lip_sync": {
            name: {
                **(_sync_summary(pairs) if pairs else {"pairs": 0}),
                "each": [asdict(pair) for pair in pairs],
            }
            for name, pairs in report.pairs.items()
        },
        "self_reconstruction": {
            name: {
                "frames": sum(clip.frames for clip in clips),
                "made": asdict(_likeness(clips, copied=False)) if clips else None,
                "copied": asdict(_likeness(clips, copied=True)) if clips else None,
                "each": [asdict(clip) for clip in clips],
            }
            for name, clips in report.clips.items()
        },
        "leakage": {
            name: {
                **(_leak_summary(faces) if faces else {"faces": 0}),
                "each": [asdict(face) for face in faces],
            }
            for name, faces in report.leaks.items()
        },
        "speech": None if report.speech is None else _finite(asdict(report.speech)),
        "left_out": [asdict(failed) for failed in report.failed],
    }


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }


def write_json(report: Report, path: Path) -> None:
    """Write :func:`to_json`; see :func:`training.tables.write_values`."""
    write_values(path, to_json(report))
