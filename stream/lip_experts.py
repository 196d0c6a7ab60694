"""Which bundle's lip expert watches a session."""

from __future__ import annotations

from pathlib import Path

from engine.bundle import Bundle, load_bundle
from engine.errors import BundleError


def expert_bundle(bundle: Bundle, wanted: str, expert_folder: Path | None) -> Bundle | None:
    """The bundle whose lip expert watches, if the settings ask for one.

    Args:
        bundle: the one that runs.
        wanted: ``off``, ``report`` or ``act``.
        expert_folder: a bundle whose lip expert watches; by default the running one's, or the
            starter's where that has none.

    Raises:
        BundleError: the expert's bundle does not fit, or has none.
    """
    if wanted == "off":
        return None
    if expert_folder is not None:
        bundle = load_bundle(expert_folder)
    elif bundle.expert is None:
        bundle = load_bundle()
    return with_expert(bundle)


def with_expert(bundle: Bundle) -> Bundle:
    """The same bundle.

    Raises:
        BundleError: it carries no lip expert.
    """
    if bundle.expert is None:
        raise BundleError(
            f"The bundle {bundle.folder} carries no lip expert; name another --lip-expert, or"
            " switch it off with --sync-monitor off."
        )
    return bundle
