"""What ``camera --list`` shows: the devices that there are, by the names that flags take."""

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from engine.errors import LipstreamError
from stream.live.sound_devices import list_inputs, list_outputs
from stream.live.webcam import list_cameras

_Row = tuple[str, str]


def device_table() -> RenderableType:
    """The cameras, microphones and sound outputs of this computer."""
    return Group(
        _table("Cameras (--camera)", lambda: [(c.id, c.label) for c in list_cameras()]),
        _table(
            "Sound in (--source-audio, --target-audio)",
            lambda: [(str(d.id), f"{d.name} ({d.host})") for d in list_inputs()],
        ),
        _table(
            "Sound out (--virtual-mic)",
            lambda: [(str(d.id), f"{d.name} ({d.host})") for d in list_outputs()],
        ),
    )


def _table(title: str, look: Callable[[], Sequence[_Row]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, expand=False)
    try:
        rows = look()
    except LipstreamError as error:
        rows = [("", str(error))]
    for name, text in rows or [("", "none; `lipstream doctor` says what to do")]:
        table.add_row(name, text)
    return table
