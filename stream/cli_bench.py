"""The words of ``bench``."""

import argparse
from pathlib import Path

MOST_ROUNDS, MOST_SECONDS = 1000, 3600.0
HISTORY = Path("benchmarks") / "history.jsonl"


def add_bench_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the command."""
    bench = commands.add_parser(
        "bench",
        help="measure the networks on every run time, and each stage of a live frame",
        description="Measure, in one run, what this machine makes of a chunk on each run time and"
        " in PyTorch, of its own peak, and of each stage of a live frame. Best while nothing else"
        " runs. docs/bench.md explains the figures.",
    )
    bench.add_argument("--json", action="store_true", help="print the figures as JSON")
    bench.add_argument(
        "--bundle",
        metavar="DIR",
        dest="bundle_folder",
        type=Path,
        help="what is measured as `starter` (default: the starter that comes with the program)",
    )
    bench.add_argument(
        "--paper",
        metavar="BUNDLE",
        type=Path,
        help="a bundle of the paper's size (default: an untrained one, made once)",
    )
    bench.add_argument(
        "--no-paper", dest="with_paper", action="store_false", help="leave the paper's size out"
    )
    bench.add_argument(
        "--no-torch", dest="with_torch", action="store_false", help="leave PyTorch out"
    )
    bench.add_argument(
        "--rounds",
        metavar="N",
        type=_rounds,
        default=20,
        help="how often each candidate is run (default: %(default)s)",
    )
    bench.add_argument(
        "--seconds",
        metavar="S",
        type=_seconds,
        default=120.0,
        help="begin no further round after so long (default: %(default).0f)",
    )
    bench.add_argument(
        "--threads", metavar="N", type=int, help="processor threads of the networks (default: 2)"
    )
    bench.add_argument("--plot", metavar="OUT.png", type=Path, help="draw the figures")
    bench.add_argument(
        "--history",
        metavar="FILE",
        type=Path,
        default=HISTORY,
        help="add the figures to this file, one JSON a line (default: %(default)s)",
    )
    bench.add_argument(
        "--no-history",
        dest="history",
        action="store_const",
        const=None,
        help="add them to no file",
    )
    bench.add_argument("--config", metavar="FILE", type=Path, help="a TOML file of settings")
    bench.set_defaults(report=None, out=None)


def _rounds(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= MOST_ROUNDS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_ROUNDS}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds up to {MOST_SECONDS:.0f}"
        )
    return value
