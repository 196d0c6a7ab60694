"""What only Linux tells, read from its files."""

import os
import platform
import shutil
from pathlib import Path
from typing import Final

from stream.doctor_checks import Loopback, LoopbackModule, Memory
from stream.doctor_steps import Packager

ROOT: Final = Path("/")
MODULE: Final = "v4l2loopback"
VIRTUAL: Final = "sys/devices/virtual/video4linux"
# The last byte of this variable is 1 where the firmware checks signatures (UEFI 2.10, 3.3).
SECURE_BOOT: Final = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

_FAMILIES: Final[dict[str, Packager]] = {
    "debian": "apt",
    "ubuntu": "apt",
    "fedora": "dnf",
    "rhel": "dnf",
    "arch": "pacman",
}
_PROGRAMS: Final[dict[str, Packager]] = {"apt-get": "apt", "dnf": "dnf", "pacman": "pacman"}


def packager() -> Packager:
    """What installs packages here, empty where it is another one."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    for name in (release.get("ID", ""), *release.get("ID_LIKE", "").split()):
        if name in _FAMILIES:
            return _FAMILIES[name]
    return next((what for name, what in _PROGRAMS.items() if shutil.which(name)), "")


def memory(root: Path = ROOT) -> Memory:
    """The computer's memory."""
    lines = (root / "proc/meminfo").read_text().splitlines()
    kb = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    free = kb.get("MemAvailable")
    return Memory(total_mb=kb["MemTotal"] // 1024, free_mb=None if free is None else free // 1024)


def locked_cameras(root: Path = ROOT) -> list[str]:
    """Device files of real cameras that this user may not open."""
    virtual = {folder.name for folder in (root / VIRTUAL).glob("video*")}
    nodes = sorted((root / "dev").glob("video*"))
    return [
        f"/dev/{node.name}"
        for node in nodes
        if node.name not in virtual and not os.access(node, os.R_OK | os.W_OK)
    ]


def loopback(root: Path = ROOT, release: str | None = None) -> LoopbackModule:
    """The state of v4l2loopback.

    Args:
        root: of the file system.
        release: of the kernel; the running one by default.
    """
    folder = root / "sys/module" / MODULE
    loaded = folder.is_dir()
    modules = root / "lib/modules" / (release or platform.release()) / "modules.dep"
    flags = _read(folder / "parameters/exclusive_caps")
    secure = root / SECURE_BOOT
    return LoopbackModule(
        installed=loaded or f"/{MODULE}.ko" in _read(modules),
        loaded=loaded,
        exclusive="Y" in flags if flags else None,
        secure_boot=_bytes(secure)[-1:] == b"\x01",
        devices=_devices(root) if loaded else (),
    )


def _devices(root: Path) -> tuple[Loopback, ...]:
    found = []
    for folder in (root / VIRTUAL).glob("video*"):
        if not (folder / "max_openers").is_file():  # another virtual device
            continue
        node = root / "dev" / folder.name
        using = users(node, root)
        state = _read(folder / "state").strip()  # there since 0.13
        found.append(
            Loopback(
                path=f"/dev/{folder.name}",
                label=_read(folder / "name").strip(),
                writable=os.access(node, os.W_OK),
                busy=state == "capture" if state else bool(using),
                users=using,
            )
        )
    return tuple(sorted(found, key=lambda device: int(device.path.removeprefix("/dev/video"))))


def users(node: Path, root: Path = ROOT) -> tuple[str, ...]:
    """Names of the programs that have a file open; only of those of this user, but for root."""
    found = set()
    for process in (root / "proc").glob("[0-9]*"):
        try:
            links = [os.path.realpath(link) for link in (process / "fd").iterdir()]
        except OSError:  # another user's, or just ended
            continue
        if str(node) in links:
            found.add(_read(process / "comm").strip())
    return tuple(sorted(found))


def _read(path: Path) -> str:
    return _bytes(path).decode(errors="replace")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
