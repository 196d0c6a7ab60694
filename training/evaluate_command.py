"""``python -m training evaluate``: its arguments, and what each way of calling it does.

A bundle is judged by clips; finished videos, of whatever system, are judged by the true ones; so
are the judges themselves, in studies, and people's rankings are prepared and read.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.bundle import STARTER
from engine.errors import ConfigError
from training.terminal import add_score_weights, check_folders, count, progress, whole_number

if TYPE_CHECKING:
    from training.scoring.judges import Judges

STUDIES: Final = ("stability", "shift", "rotation", "scale", "delay")
PAIRS, WORKERS, RANKED_CLIPS = 30, 1, 10

# Arguments that only one way of calling takes, as argparse names them.
_OF_BUNDLES: Final = ("others", "bundle", "pairs", "speech_video", "leakage")
_OF_VIDEOS: Final = (
    *("generated", "expert", "syncnet", "syncnet_colour", "inception", "fan", "codec_kbps"),
    *("sheet", "study", "csv", "plot", "rank", "clips"),
)


def add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's."""
    command = commands.add_parser(
        "evaluate",
        help="judge a bundle, or finished videos",
        description="Judge a bundle (SPEAKER_CLIPS): how well the lips follow, and how well the"
        " person is kept. Or judge finished videos of any system (--truth with --generated), the"
        " judges of lip sync themselves (--study), or let people rank (--rank, --ranks).",
    )
    way = command.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "videos",
        metavar="SPEAKER_CLIPS",
        type=Path,
        nargs="?",
        help="folder of videos of the person learnt from; the held-out tenth is used",
    )
    way.add_argument("--truth", metavar="DIR", type=Path, help="folder of true videos")
    way.add_argument(
        "--ranks",
        metavar="JSON",
        type=Path,
        nargs="+",
        help="a ranking's key and what raters have sent back: print mean ranks",
    )
    command.add_argument("--json", metavar="OUT", type=Path, help="write all figures")
    command.add_argument("--markdown", metavar="OUT", type=Path, help="write the tables of videos")
    command.add_argument(
        "--seed", metavar="N", type=whole_number, default=0, help="of all that is drawn"
    )
    command.add_argument(
        "--workers",
        metavar="N",
        type=count,
        help=f"processes that judge a bundle or score videos (default: {WORKERS})",
    )
    _add_bundle(command.add_argument_group("a bundle (SPEAKER_CLIPS)"))
    _add_videos(command.add_argument_group("finished videos (--truth)"))
    _add_more(command.add_argument_group("studies and rankings (--truth)"))


def _add_bundle(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--others", metavar="OTHER_CLIPS", type=Path, help="folder of videos of unseen people"
    )
    group.add_argument("--bundle", metavar="DIR", type=Path, help="default: the starter")
    group.add_argument(
        "--pairs", metavar="N", type=count, help=f"pairs of a row at most (default: {PAIRS})"
    )
    group.add_argument(
        "--leakage", action="store_true", help="also drive faces by silence: what moves, leaks"
    )
    group.add_argument(
        "--speech-video",
        metavar=("VIDEO", "PHONEMES.json"),
        type=Path,
        nargs=2,
        help="also judge a finished video by the phoneme times of its speech",
    )


def _add_videos(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--generated",
        metavar="[NAME=]DIR",
        nargs="+",
        type=_system,
        help="folders of systems' videos, named as the true ones",
    )
    group.add_argument(
        "--expert",
        metavar="BUNDLE",
        nargs="+",
        type=Path,
        help="bundle whose lip expert gives AVSu, AVSm and AVSv (default: the starter); a study"
        " takes several",
    )
    add_score_weights(group)
    group.add_argument(
        "--fan",
        action="store_true",
        help="measure LMD by FAN's landmarks, as papers do, not by the face mesh's; needs"
        " face-alignment",
    )
    group.add_argument(
        "--codec-kbps",
        metavar="N",
        nargs="+",
        type=count,
        help="score everything once more after VP8 at these bit rates",
    )
    group.add_argument("--sheet", metavar="OUT.png", type=Path, help="write sampled frames")


def _add_more(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--study",
        choices=STUDIES,
        help="how steady the judges are on true videos: in time, or with the face displaced",
    )
    group.add_argument(
        "--syncnet-colour",
        metavar="WEIGHTS",
        type=Path,
        help="imported lip expert of Wav2Lip, one more judge of studies",
    )
    group.add_argument("--csv", metavar="OUT", type=Path, help="write a study's figures")
    group.add_argument("--plot", metavar="OUT.png", type=Path, help="draw them; needs matplotlib")
    group.add_argument(
        "--rank", metavar="OUT.html", type=Path, help="write a page on which people rank systems"
    )
    group.add_argument(
        "--clips",
        metavar="N",
        type=count,
        help=f"clips of a study (default: all) or of a ranking (default: {RANKED_CLIPS})",
    )


def _system(text: str) -> tuple[str, Path]:
    """A system's name and folder."""
    name, equals, folder = text.partition("=")
    path = Path(folder if equals else text)
    return (name if equals else path.resolve().name), path


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for.

    Raises:
        LipstreamError: an input is wrong.
    """
    outs = arguments.json, arguments.markdown, arguments.sheet
    check_folders(*outs, arguments.csv, arguments.plot, arguments.rank)
    if arguments.videos is not None:
        _refuse(arguments, (*_OF_VIDEOS, "markdown"), "SPEAKER_CLIPS")
        _judge_bundle(arguments)
        return
    _refuse(arguments, _OF_BUNDLES, "finished videos")
    if arguments.ranks is not None:
        _refuse(arguments, (*_OF_VIDEOS, "markdown", "workers"), "--ranks")
        _read_ranks(arguments)
    elif arguments.rank is not None:
        _make_page(arguments)
    elif arguments.study is not None:
        _study(arguments)
    else:
        _score(arguments)


def _refuse(arguments: argparse.Namespace, names: Sequence[str], way: str) -> None:
    for name in names:
        if getattr(arguments, name) not in (None, False):
            raise ConfigError(f"--{name.replace('_', '-')} does not go with {way}; leave it out.")


def _judge_bundle(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from engine.bundle import load_bundle
    from training.evaluate import evaluate
    from training.evaluation_tables import show, write_json

    bundle = load_bundle(arguments.bundle or STARTER)
    with progress() as advance:
        report = evaluate(
            arguments.videos,
            arguments.others,
            bundle,
            pairs=arguments.pairs or PAIRS,
            seed=arguments.seed,
            workers=arguments.workers or WORKERS,
            speech=arguments.speech_video,
            leakage=arguments.leakage,
            progress=advance,
        )
    show(report, Console())
    if arguments.json is not None:
        write_json(report, arguments.json)


def _systems(arguments: argparse.Namespace) -> dict[str, Path]:
    given = arguments.generated or []
    systems = dict(given)
    if len(systems) < len(given):
        raise ConfigError("Two systems have one name: give them names of their own, NAME=DIR.")
    return systems


def _score(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from training.scoring.sheet import check_sheet, picture_sheet, write_sheet
    from training.scoring.systems import score
    from training.scoring.tables import show, write_json, write_markdown

    systems = _systems(arguments)
    if not systems:
        raise ConfigError("There is nothing to judge: name videos with --generated.")
    _refuse(arguments, ("syncnet_colour", "csv", "plot", "clips"), "scores of videos")
    if len(arguments.expert or ()) > 1:
        raise ConfigError("Scores come from one lip expert: name one --expert bundle.")
    if arguments.sheet is not None:
        check_sheet(arguments.sheet)
    judges = _open_judges(arguments)
    with progress() as advance:
        scores = score(
            systems,
            arguments.truth,
            judges,
            codec_kbps=list(dict.fromkeys(arguments.codec_kbps or ())),
            seed=arguments.seed,
            workers=arguments.workers or WORKERS,
            progress=advance,
        )
    show(scores, Console())
    if arguments.json is not None:
        write_json(scores, arguments.json)
    if arguments.markdown is not None:
        write_markdown(scores, arguments.markdown)
    if arguments.sheet is not None:
        write_sheet(picture_sheet(systems, arguments.truth), arguments.sheet)


def _open_judges(arguments: argparse.Namespace) -> Judges:
    from training.scoring.judges import JudgeFiles, open_judges

    return open_judges(
        JudgeFiles(
            bundles=tuple(arguments.expert or (STARTER,)),
            syncnet=arguments.syncnet,
            colour=arguments.syncnet_colour,
            inception=arguments.inception,
            fan=arguments.fan,
        )
    )


def _study(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from training.scoring.study import run_study
    from training.scoring.study_output import check_plot, plot, show, write_csv

    no_study = "json", "markdown", "inception", "fan", "codec_kbps", "sheet", "workers"
    _refuse(arguments, no_study, "--study")
    systems = _systems(arguments)
    if len(systems) > 1:
        raise ConfigError("A study takes one system's videos: name one --generated folder.")
    if arguments.plot is not None:
        check_plot(arguments.plot)
    with progress() as advance:
        study = run_study(
            arguments.study,
            arguments.truth,
            _open_judges(arguments),
            generated=next(iter(systems.values()), None),
            clips=arguments.clips,
            progress=advance,
        )
    show(study, Console())
    if arguments.csv is not None:
        write_csv(study, arguments.csv)
    if arguments.plot is not None:
        plot(study, arguments.plot)


def _make_page(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from training.scoring.ranking import key_path, make_page, write_page
    from training.tables import print_line

    unused = "expert", "syncnet", "syncnet_colour", "inception", "codec_kbps", "sheet", "workers"
    _refuse(arguments, (*unused, "study", "csv", "plot", "json", "markdown"), "--rank")
    page = make_page(
        _systems(arguments),
        arguments.truth,
        clips=arguments.clips or RANKED_CLIPS,
        seed=arguments.seed,
    )
    write_page(page, arguments.rank)
    print_line(
        Console(),
        f"{arguments.rank}: {page.clips} clips by {page.systems} systems; which is which stands in"
        f" {key_path(arguments.rank)}, which raters must not see.",
    )


def _read_ranks(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from training.scoring.ranking import RANK_HEADS, rank_rows, read_ranks
    from training.tables import show_table, write_values

    key, *ballots = arguments.ranks
    ranked = read_ranks(key, ballots)
    show_table(Console(), "Ranked by people", RANK_HEADS, rank_rows(ranked))
    if arguments.json is not None:
        figures = {"systems": [asdict(row) for row in ranked]}
        write_values(arguments.json, figures)
