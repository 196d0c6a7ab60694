"""What each pass of the export is worth: the generator's time without it and with it."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from engine.backends.interface import Variant
from engine.backends.noise import random_feed
from engine.backends.openvino import OpenVinoNetwork
from engine.bundle import GENERATOR, IDENTITY, Bundle
from engine.bundle_variants import Precision
from engine.files import write_whole
from export.build import write_variant
from export.comparison import times_ms
from training.checkpoint import Checkpoint

FILE: Final = "passes.json"
ROUNDS: Final = 9


def measure_passes(
    checkpoint: Checkpoint, bundle: Bundle, *, threads: int, precision: Precision
) -> dict[str, dict[str, float | str]]:
    """Time the generator without each pass, in turn with the one that has them all.

    Args:
        checkpoint: that the bundle was made of.
        bundle: with all passes.
        threads: processor threads, from 1.
        precision: fp32 or bf16.

    Returns:
        Pass to ``without_ms`` and ``with_ms`` of a chunk of k frames, and the run time's
        ``variant``; also written into the bundle's folder.
    """
    variant = Variant("openvino", precision)
    feed = random_feed(bundle, bundle.k)
    whole = OpenVinoNetwork(bundle, GENERATOR, threads, precision)
    identity = OpenVinoNetwork(bundle, IDENTITY, threads, precision)
    pictures = random_feed(bundle, bundle.k)["pose"]
    with TemporaryDirectory() as folder:
        unfolded = write_variant(checkpoint, bundle, Path(folder) / "unfolded", fold=False)
        all_rows = write_variant(checkpoint, bundle, Path(folder) / "rows", whole=True)
        networks = {
            "fold_normalisations": OpenVinoNetwork(unfolded, GENERATOR, threads, precision),
            "pasted_rows": OpenVinoNetwork(all_rows, GENERATOR, threads, precision),
        }

        def with_identity() -> None:
            identity({"identity": pictures})
            whole(feed)

        calls: dict[str, Callable[[], object]] = {
            "with": partial(whole, feed),
            "identity_once": with_identity,
            **{name: partial(network, feed) for name, network in networks.items()},
        }
        took = times_ms(calls, ROUNDS)
    found: dict[str, dict[str, float | str]] = {
        name: {
            "without_ms": round(ms, 2),
            "with_ms": round(took["with"], 2),
            "variant": str(variant),
        }
        for name, ms in took.items()
        if name != "with"
    }
    write_whole(bundle.folder / FILE, json.dumps(found, indent=2) + "\n")
    return found
