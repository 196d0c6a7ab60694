"""Collection rules and fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

CATEGORIES = {"unit", "media", "models", "cli"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not CATEGORIES & {mark.name for mark in item.iter_markers()}:
            raise pytest.UsageError(
                f"{item.nodeid} has no category: set `pytestmark = pytest.mark.<category>`,"
                f" one of {', '.join(sorted(CATEGORIES))}"
            )


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The development clips; a test that asks for them skips where they are missing."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LIPSTREAM_DATA", default))
    if not (folder / "grid").is_dir():
        pytest.skip(f"the development clips are not at {folder} (set LIPSTREAM_DATA)")
    return folder
