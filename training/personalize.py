"""Fine-tune a bundle on one speaker.

    python -m training personalize VIDEO -o RUN

The speaker's videos are cut into pieces, of which a tenth is held out; the bundle's generator
learns from the others, its audio encoder stays as it is; the held-out pieces judge the bundle
before and after. Everything lies in the run's folder, and a run that was stopped goes on.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from engine.bundle import MANIFEST, STARTER, Bundle, load_bundle
from engine.crop import UprightGeometry
from engine.errors import BundleError, ConfigError, MediaError
from engine.files import sha256_of
from engine.lip_expert import LipExpert
from engine.mel import MelSettings
from training.before_after import BeforeAfter, compare, write
from training.bundled import read_generator
from training.checkpoint import load_checkpoint
from training.clips import FPS
from training.config import TrainConfig, personal
from training.hardware import CPU, Hardware
from training.objective import NetworkFiles
from training.painter import TorchPainter
from training.pieces import Pieces, cut_pieces
from training.prepare import find_videos
from training.tables import write_values
from training.terminal import make_folder
from training.train import FILE, Run

JSON: Final = "before-after.json"
MARKDOWN: Final = "before-after.md"
_START: Final = "start.json"
_PIECES: Final = "pieces"


class Personalization:
    """Fine-tuning of one bundle on one speaker, in a folder of its own."""

    def __init__(self, videos: Sequence[Path], bundle: Bundle, folder: Path) -> None:
        """Look at what is given, before any work is done.

        Args:
            videos: of the speaker, files or folders of them.
            bundle: to start from.
            folder: of the run.

        Raises:
            MediaError: a folder holds no videos.
            BundleError: the bundle can't be trained on.
            ConfigError: the folder holds a run of other videos or another bundle.
        """
        self.bundle, self.folder = bundle, folder
        self._form = read_generator(bundle).config
        _check_features(bundle)
        self._videos = [
            video
            for given in videos
            for video in (find_videos(given) if given.is_dir() else [given])
        ]
        self._start = {
            "bundle_sha256": sha256_of(bundle.folder / MANIFEST),
            "videos": [_hash(video) for video in self._videos],
        }
        known = folder / _START
        if known.is_file() and _read(known) != self._start:
            raise ConfigError(
                f"{folder} holds a run of other videos, or of another bundle: name another folder"
                " with -o."
            )

    def cut(self, workers: int | None = None) -> Pieces:
        """Cut the videos, or find their pieces where they are cut already.

        Args:
            workers: processes that prepare; one a core by default.

        Raises:
            MediaError: a video can't be read, or all show too little of a face.
            ConfigError: the folder can't be written.
        """
        make_folder(self.folder)
        pieces = cut_pieces(
            self._videos,
            self.folder / _PIECES,
            resolution=self.bundle.resolution,
            workers=workers,
        )
        write_values(self.folder / _START, self._start)
        return pieces

    def config(self, changes: Mapping[str, Any], objective: Mapping[str, Any]) -> TrainConfig:
        """The run's configuration.

        Args:
            changes: fields of it.
            objective: fields of its objective.
        """
        run = personal(self._form, self.bundle.placement)
        return replace(run, objective=replace(run.objective, **objective), **changes)

    def run(
        self,
        pieces: Pieces,
        config: TrainConfig,
        *,
        facts: Mapping[str, str],
        files: NetworkFiles | None = None,
        hardware: Hardware = CPU,
    ) -> Run:
        """The run, new or where it stands.

        Args:
            pieces: of :meth:`cut`.
            config: of :meth:`config`.
            facts: ``licence`` and ``training_data`` of what comes out, where they are not the
                bundle's and the speaker's.
            files: the networks that the objective asks for.
            hardware: where it learns.

        Raises:
            ConfigError: several processes, or as for :class:`Run`.
        """
        if hardware.processes > 1:
            raise ConfigError("personalize runs in one process: start it without torchrun.")
        weights = self.bundle.weights
        own = {
            "licence": weights.licence,
            "training_data": f"{weights.training_data}; fine-tuned on {pieces.learnt_s:.0f} s of"
            " one speaker",
        }
        return Run(
            pieces.clips,
            self.bundle.folder,
            self.folder,
            config,
            facts={**own, **facts},
            start=self.bundle.folder,
            files=files,
            hardware=hardware,
        )

    def judge(self, pieces: Pieces, run: Run) -> BeforeAfter:
        """Judge the bundle and the run's checkpoint by the held-out pieces; write the table.

        Returns:
            What was written into the run's folder, as :data:`JSON` and :data:`MARKDOWN`.
        """
        judge = self.bundle if self.bundle.expert is not None else load_bundle(STARTER)
        facts = {
            "bundle": self.bundle.folder.name,
            "bundle_sha256": self._start["bundle_sha256"],
            "steps": run.step,
            "learnt_s": pieces.learnt_s,
            "held_out_s": pieces.held_out_s,
            "device": str(run.device),
        }
        after = TorchPainter(load_checkpoint(run.path), run.device)
        table = compare(self.bundle, after, pieces.held_out, LipExpert(judge), facts)
        write(table, self.folder / JSON, self.folder / MARKDOWN)
        return table

    def export_line(self) -> str:
        """The command that makes a bundle of what was learnt."""
        words = [str(self.folder / FILE), "-o", str(self.folder / "bundle")]
        return shlex.join(["python", "-m", "export", *words])


def _check_features(bundle: Bundle) -> None:
    """Refuse a bundle that looks or hears in another way than prepared clips do."""
    same = bundle.crop == UprightGeometry() and bundle.mel == MelSettings() and bundle.fps == FPS
    if not same or bundle.colour_order != "rgb" or bundle.identity_policy != "live":
        raise BundleError(
            f"The bundle {bundle.folder} looks or hears in another way than clips are prepared"
            " here; name one that was trained here."
        )


def _hash(video: Path) -> str:
    try:
        return sha256_of(video)
    except OSError as error:
        raise MediaError(f"{video} can't be read ({error.strerror}); check its name.") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
