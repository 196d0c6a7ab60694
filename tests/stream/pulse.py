"""A real PulseAudio for tests, in user space: a null sink, and its sound as a microphone."""

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Final

import pytest

SINK: Final = "vspk"
SOURCE: Final = "vmic"
DECOY: Final = "decoy"

_START_S: Final = 5.0


class Pulse:
    """A PulseAudio server with an own socket.

    Its default is a sink that nobody listens to, so that sound which is not sent to
    :data:`SINK` by name is lost.

    Args:
        folder: for its socket and its state; a short path, since sockets' names are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "pulse.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it, and no other server."""
        return {
            "PULSE_SERVER": f"unix:{self._socket}",
            "XDG_RUNTIME_DIR": str(self._folder),
            "HOME": str(self._folder),
        }

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # norewinds: else a null sink mixes two seconds ahead while nobody plays, and whoever
        # begins to play or listen waits for so long.
        modules = (
            f"module-native-protocol-unix auth-anonymous=1 socket={self._socket}",
            f"module-null-sink sink_name={DECOY} rate=48000 norewinds=1",
            f"module-null-sink sink_name={SINK} rate=48000 norewinds=1",
            f"module-remap-source source_name={SOURCE} master={SINK}.monitor",
        )
        flags = ("--daemonize=no", "--exit-idle-time=-1", "-n", "--disallow-exit")
        self._process = subprocess.Popen(
            ["pulseaudio", *flags, "--use-pid-file=no", *(f"-L{module}" for module in modules)],
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + _START_S
        while SOURCE not in self._sources():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                pytest.skip("pulseaudio does not start here")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _sources(self) -> str:
        return subprocess.run(
            ["pactl", "list", "short", "sources"],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        ).stdout


@pytest.fixture
def running_pulse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulse]:
    """A running server of the test's own; modules name it by ``pulse = running_pulse``."""
    for program in ("pulseaudio", "pactl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    # Not imported: that would start PortAudio in this process.
    if importlib.util.find_spec("sounddevice") is None or find_library("portaudio") is None:
        pytest.skip("sounddevice or PortAudio is not installed")
    folder = tmp_path_factory.mktemp("p")
    folder.chmod(0o700)
    server = Pulse(folder)
    server.start()
    yield server
    server.kill()
