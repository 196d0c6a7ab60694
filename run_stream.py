"""lipstream's commands, ``python run_stream.py demo | dub …``: this module parses and starts."""

import argparse
import io
import sys
from functools import partial

from engine.errors import EngineError, LipstreamError
from stream.cli import check_report, parse, progress_bar

SUCCESS, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130  # exit codes


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the words after the program's name; the process's own by default.

    Returns:
        The exit code: 0, or 2 where an input or a setting is wrong, 1 where the run time failed,
        130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # file names that the terminal can't show
    arguments = parse(argv)
    try:
        _start(arguments)
    except KeyboardInterrupt:
        print("lipstream: stopped; nothing was written.", file=sys.stderr)
        return INTERRUPTED
    except LipstreamError as error:
        print(f"lipstream: {error}", file=sys.stderr)
        return FAILED if isinstance(error, EngineError) else WRONG_USE
    return SUCCESS


def _start(arguments: argparse.Namespace) -> None:
    # Imported here, as the run time of networks takes a moment that --help need not take.
    from engine.bundle import load_bundle
    from engine.dub import dub, dub_source
    from stream import demo
    from stream.config import Settings

    settings = Settings.load(arguments.config, **arguments.settings)
    check_report(arguments.report, arguments.out, *arguments.inputs)
    bundle = load_bundle(settings.bundle_folder)
    if arguments.command == "demo":
        print(demo.NOTICE, flush=True)
        make = partial(dub_source, demo.speaker(), demo.speech(arguments.seconds))
    else:
        make = partial(dub, *arguments.inputs)
    with progress_bar(arguments.command) as progress:
        report = make(
            arguments.out,
            bundle=bundle,
            threads=settings.threads,
            badge=settings.badge,
            crf=settings.x264_crf,
            preset=settings.x264_preset,
            progress=progress,
        )
    if arguments.report is not None:
        report.write(arguments.report)
    print(report.summary())


if __name__ == "__main__":
    sys.exit(main())
