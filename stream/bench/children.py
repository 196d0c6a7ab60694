"""Programs of ``training`` and ``export``, in processes of their own: this one loads no torch."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import engine
from engine.errors import EngineError
from stream.bench.rounds import Candidate

PEER_MODULE: Final = "training.eager"
_END_S: Final = 5.0


def has_torch() -> bool:
    """Whether PyTorch is installed, with what trains and exports."""
    return all(importlib.util.find_spec(name) for name in ("torch", "training", "export"))


def run_module(name: str, *words: str) -> None:
    """Run a module of this program to its end.

    Args:
        name: of the module.
        *words: its command line.

    Raises:
        EngineError: it failed; the message is the last line that it wrote.
    """
    done = subprocess.run(
        [sys.executable, "-m", name, *words],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EngineError(_last_line(done.stderr) or f"{name} ended with {done.returncode}")


class TorchPeer:
    """Networks in eager PyTorch, in a process that idles between two chunks.

    Args:
        networks: the bundle's folder or the checkpoint of each, by name.
        threads: processor threads.
        command: what is run instead of ``python -m training.eager``.

    Attributes:
        version: of PyTorch.
        networks: facts by name: ``parameters`` and ``gflop_frame``.
        refused: why a network can't be run, by name.

    Raises:
        EngineError: it can't be started.
    """

    def __init__(
        self,
        networks: Mapping[str, Path],
        threads: int,
        command: tuple[str, ...] = (sys.executable, "-m", PEER_MODULE),
    ) -> None:
        self._errors: IO[str] = tempfile.TemporaryFile(  # noqa: SIM115 - closed with the process
            "w+", encoding="utf-8", errors="replace"
        )
        words = [f"{name}={path.resolve()}" for name, path in networks.items()]
        self._process = subprocess.Popen(
            [*command, "--threads", str(threads), *words],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            facts = self._read()
            self.version: str = facts["torch"]
            self.networks: dict[str, dict[str, float]] = facts["networks"]
            self.refused: dict[str, str] = facts["refused"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self.close()

    def chunk(self, network: str, *, keeps_identity: bool) -> Candidate:
        """Return a candidate that paints one chunk; the process times itself.

        Args:
            network: its name.
            keeps_identity: whether the identity's features were computed beforehand.
        """
        request = json.dumps({"network": network, "keeps_identity": keeps_identity}) + "\n"

        def candidate() -> float:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(request)
                self._process.stdin.flush()
            except OSError as error:
                raise self._ended() from error
            return float(self._read()["seconds"])

        return candidate

    def close(self) -> None:
        """End the process, which ends by itself unless it hangs."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # what was still to be written to an ended process
                continue
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise EngineError(f"PyTorch failed: {message['error']}.")
        return message

    def _ended(self) -> EngineError:
        self._errors.seek(0)
        return EngineError(f"PyTorch's process ended: {_last_line(self._errors.read())}.")


def _environment() -> dict[str, str]:
    """This process's environment, with the packages and without threads that spin while idle."""
    packages = str(Path(engine.__file__).parents[1])
    before = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([packages, before] if before else [packages]),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
    }


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""


Run = Callable[..., None]
"""As :func:`run_module`."""
