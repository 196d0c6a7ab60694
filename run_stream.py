"""lipstream's commands, ``run_stream.py demo | camera | relay | dub …``, parsed and started."""

import argparse
import asyncio
import io
import sys
from typing import Final

from engine.errors import EngineError, LipstreamError
from stream.cli import check_report, parse, progress_bar, refuse_enhancement
from stream.config import Settings

SUCCESS, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130  # exit codes


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the words after the program's name; the process's own by default.

    Returns:
        The exit code: 0, or 2 where an input or a setting is wrong, 1 where the run time failed,
        130 after Ctrl-C (a live session that ends so returns 0).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # file names that the terminal can't show
    arguments = parse(argv)
    try:
        return _COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        print("lipstream: stopped; nothing was written.", file=sys.stderr)
        return INTERRUPTED
    except LipstreamError as error:
        print(f"lipstream: {error}", file=sys.stderr)
        return FAILED if isinstance(error, EngineError) else WRONG_USE


# Imports stand in the commands, as the run time of networks takes a moment that --help need not.


def _dub(arguments: argparse.Namespace) -> int:
    from engine.bundle import load_bundle
    from engine.dub import dub

    settings = Settings.load(arguments.config, **arguments.settings)
    check_report(arguments.report, arguments.out, *arguments.inputs, settings.enhance_model)
    bundle = load_bundle(settings.bundle_folder)
    with progress_bar(arguments.command) as progress:
        face, speech = arguments.inputs
        report = dub(
            face,
            speech,
            arguments.out,
            bundle=bundle,
            threads=settings.threads,
            backend=settings.backend,
            backends_off=settings.backends_off,
            badge=settings.badge,
            enhance=settings.enhance_model,
            enhance_strength=settings.enhance_strength,
            crf=settings.x264_crf,
            preset=settings.x264_preset,
            progress=progress,
        )
    if arguments.report is not None:
        report.write(arguments.report)
    print(report.summary())
    return SUCCESS


def _live(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    if getattr(arguments, "list_devices", False):
        from stream.live.devices import device_table

        Console().print(device_table())
        return SUCCESS
    settings = Settings.load(arguments.config, **arguments.settings)
    check_report(arguments.report, arguments.out)
    if settings.enhance_strength > 0:
        refuse_enhancement(settings.enhance_model, settings.threads)

    from stream import demo
    from stream.live.start import Order, hold

    if arguments.command == "demo":
        print(demo.NOTICE, flush=True)
    order = Order(
        demo=arguments.command == "demo",
        seconds=arguments.seconds,
        record=arguments.out,
        page=not arguments.no_page,
        trace=arguments.trace,
        plot=arguments.plot,
    )
    report = asyncio.run(hold(order, settings, lambda line: print(line, flush=True)))
    if arguments.report is not None:
        report.write(arguments.report)
    Console().print(report.table())
    return SUCCESS


def _relay(arguments: argparse.Namespace) -> int:
    from stream.relay.config import RelaySettings

    settings = RelaySettings.load(arguments.config, **arguments.settings)
    if arguments.word == "token":
        from stream.relay.front.access import Access

        token = Access(settings.secret or None).mint(
            arguments.room,
            arguments.acts,
            lifetime=arguments.lifetime,
            speaker=arguments.speaker,
            language=arguments.language,
        )
        print(token)
        return SUCCESS
    refuse_enhancement(arguments.enhance_model, settings.threads)
    settings.check_access()
    from stream.relay.front.serve import serve

    asyncio.run(serve(settings, lambda line: print(line, flush=True)))
    return SUCCESS


def _doctor(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from stream.doctor import exit_code, run, table, to_json

    checks = run(Settings.load(arguments.config, **arguments.settings))
    if arguments.json:
        print(to_json(checks))
    else:
        Console().print(table(checks))
    return exit_code(checks)


def _bench(arguments: argparse.Namespace) -> int:
    import json

    from rich.console import Console

    from engine.machine import user_cache
    from stream.bench.history import append, check_history
    from stream.bench.plot import plot
    from stream.bench.run import Order, bench
    from stream.bench.table import tables
    from stream.report_plot import check_plot

    settings = Settings.load(arguments.config, **arguments.settings)
    if arguments.plot is not None:
        check_plot(arguments.plot)
    if arguments.history is not None:
        check_history(arguments.history)
    order = Order(
        bundle=settings.bundle_folder,
        paper=arguments.paper,
        with_paper=arguments.with_paper,
        with_torch=arguments.with_torch,
        cache=user_cache(),
        threads=settings.threads,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
    )
    with progress_bar(arguments.command) as progress:
        figures = bench(order, lambda line: print(line, file=sys.stderr, flush=True), progress)
    found = figures.to_dict()
    if arguments.history is not None:
        append(arguments.history, found)
    if arguments.plot is not None:
        plot(figures, arguments.plot)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        Console().print(*tables(figures), sep="\n")
    return SUCCESS


_COMMANDS: Final = {
    "dub": _dub,
    "demo": _live,
    "camera": _live,
    "relay": _relay,
    "doctor": _doctor,
    "bench": _bench,
}


if __name__ == "__main__":
    sys.exit(main())
