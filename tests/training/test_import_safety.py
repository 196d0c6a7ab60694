"""Nothing in a file is ever run, and files that try to, or that are damaged, are refused."""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import ConfigError
from tests.training.public_files import random_state, write
from training import torch_files, unpickling
from training.avhubert import AvHubertConfig
from training.importing import import_checkpoint
from training.public_networks import AVHUBERT

pytestmark = pytest.mark.unit

NARROW = AvHubertConfig(layers=1, dim=64, ffn=64, heads=1, trunk=(8, 8, 8, 8)).to_dict()


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.parts


def refusal(path: Path, out: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        import_checkpoint(path, out / "own" / "weights.safetensors")
    assert not (out / "own").exists()
    return str(caught.value)


def zipped(path: Path, data: bytes, **members: bytes) -> Path:
    """A zip archive as torch writes it, around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    return path


def old_form(path: Path, data: bytes) -> Path:
    """The form before torch 1.6, around any pickle."""
    heads = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001})
    pickles = [*(pickle.dumps(head, 2) for head in heads), data, pickle.dumps([], 2)]
    path.write_bytes(b"".join(pickles))
    return path


FORMS = {"zip": zipped, "old": old_form}


def touching(target: Path) -> dict[str, bytes]:
    """Pickles that make a file where they are run, each in another way."""
    command = f"touch {target}"
    python = f"open({str(target)!r}, 'w').close()"
    quoted = str(target).encode()
    return {
        "os.system": pickle.dumps(Call(os.system, command), 2),
        "builtins.eval": pickle.dumps(Call(eval, python), 4),
        "builtins.exec": pickle.dumps({"model": {}, "x": [Call(exec, python)]}, 4),
        "nested": pickle.dumps(Call(dict, [("x", Call(os.system, command))]), 2),
        "subprocess": pickle.dumps(Call(subprocess.call, ["touch", str(target)]), 2),
        "instance": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "object": b"(cos\nsystem\nS'" + command.encode() + b"'\no.",
        "stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93"
        + b"X"
        + struct.pack("<I", len(command))
        + command.encode()
        + b"\x85R.",
        "setstate": b"ctypes\nSimpleNamespace\n)R}S'__setstate__'\ncos\nsystem\nsbS'"
        + command.encode()
        + b"'\nb.",
        "torch.load": b"\x80\x02ctorch\nload\nX"
        + struct.pack("<I", len(quoted))
        + quoted
        + b"\x85R.",
        "numpy": b"\x80\x02cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85c"
        b"_codecs\nencode\nX\x01\x00\x00\x00bX\x06\x00\x00\x00latin1\x86RtR.",
        "import": b"cimportlib\nimport_module\n(S'antigravity'\ntR.",
        "builtins.getattr": b"c__builtin__\ngetattr\n(c__builtin__\ndict\nS'fromkeys'\ntR.",
    }


NAMES = list(touching(Path("unused")))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_file_that_names_what_no_checkpoint_holds_is_refused_and_not_run(
    tmp_path: Path, name: str, form: str
) -> None:
    target = tmp_path / "ran"
    data = touching(target)[name]
    message = refusal(FORMS[form](tmp_path / "bad.pt", b"\x80\x02" + data), tmp_path)
    assert "bad.pt asks for '" in message
    assert "was refused; nothing in it was run" in message
    assert not target.exists()
    assert "antigravity" not in sys.modules


HARMFUL = ["os.system", "builtins.eval", "builtins.exec", "nested", "subprocess", "instance"]


@pytest.mark.parametrize("name", [*HARMFUL, "object", "stack", "setstate"])
def test_those_files_would_run_elsewhere(tmp_path: Path, name: str) -> None:
    target = tmp_path / "ran"
    pickle.loads(touching(target)[name])
    assert target.exists()


@pytest.mark.parametrize("form", FORMS)
def test_known_names_are_not_imported_either(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a package that is there, and that would do harm when it is imported."""
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    calls = b"cfairseq.os\nsystem\n(S'touch ran'\ntR}S'x'\nK\x01sb0"
    state = pickle.dumps({"model": {}}, 2)[2:]
    message = refusal(FORMS[form](tmp_path / "odd.pt", b"\x80\x02" + calls + state), tmp_path)
    assert "holds no tensors" in message
    assert "fairseq" not in sys.modules


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
)


def tensor(offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A call that makes a tensor over four numbers."""
    places = b"".join(pickle.dumps(part, 2)[2:-1] for part in (offset, shape, stride))
    return REBUILD + b"(" + STORAGE + places + b"\x89}tR"


def keyed(key: Any) -> bytes:
    """A dict with one key."""
    return b"}" + pickle.dumps(key, 2)[2:-1] + b"K\x01s."


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(REBUILD + b"}S'x'\nK\x01sb.", id="state for a function"),
        pytest.param(b"ccollections\nOrderedDict\n}S'x'\nK\x01sb.", id="state for a class"),
        pytest.param(b"ccollections\nOrderedDict\nN}S'x'\nK\x01s\x86b.", id="slots of a class"),
        pytest.param(b"(K\x01K\x02tR.", id="call of a tuple"),
        pytest.param(b"]K\x01\x85R.", id="call of a list"),
        pytest.param(b"K\x01)R.", id="call of a number"),
        pytest.param(b"R.", id="empty stack"),
        pytest.param(b"(t0.", id="dropped"),
        pytest.param(b"h\x07.", id="no such memory"),
        pytest.param(b"]K\x01K\x02s.", id="item of a list"),
        pytest.param(b"}K\x01a.", id="member of a dict"),
        pytest.param(b"\x82\x01.", id="extension"),
        pytest.param(b"P1\n.", id="persistent text"),
        pytest.param(b"K\x01Q.", id="persistent number"),
        pytest.param(b"(X\x07\x00\x00\x00storagectorch\nSize\nK\x00NK\x01tQ.", id="odd storage"),
        pytest.param(b"}}K\x01s.", id="dict as key"),
        pytest.param(b"X\xff\xff\xff\x7fshort.", id="text beyond the file"),
        pytest.param(b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fshort.", id="huge text"),
        pytest.param(b"\xff.", id="unknown instruction"),
        pytest.param(b"K\x01", id="no end"),
        pytest.param(b"L" + b"9" * 5000 + b"L\n.", id="endless number"),
        pytest.param(tensor(0, (5,), (1,)) + b".", id="tensor beyond its storage"),
        pytest.param(tensor(3, (2,), (1,)) + b".", id="tensor that begins late"),
        pytest.param(tensor(0, (2, 2), (3, 1)) + b".", id="tensor of wide steps"),
        pytest.param(tensor(0, (1 << 40,), (0,)) + b".", id="tensor larger than its storage"),
        pytest.param(tensor(0, (-1,), (1,)) + b".", id="negative length"),
        pytest.param(tensor(0, (2,), (-1,)) + b".", id="negative step"),
        pytest.param(tensor(0, (2,), (1, 1)) + b".", id="steps too many"),
        pytest.param(tensor(0, (1,) * 65, (1,) * 65) + b".", id="axes too many"),
        pytest.param(tensor(0, (1,), (1 << 63,)) + b".", id="step beyond 64 bits"),
        pytest.param(keyed(1 << 63), id="key beyond 64 bits"),
        pytest.param(keyed("k" * 1001), id="long key"),
        pytest.param(keyed(("k",) * 9), id="long tuple as key"),
        pytest.param(keyed((1, 2)), id="tuple of numbers as key"),
        pytest.param(b"K\x01p18446744073709551616\n.", id="huge place in memory"),
        pytest.param(b"cfairseq\n" + b"n" * 1001 + b"\n.", id="long name"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_nonsense_is_refused(tmp_path: Path, data: bytes, form: str) -> None:
    before = repr(torch._utils._rebuild_tensor_v2.__dict__)
    assert "get the file again" in refusal(
        FORMS[form](tmp_path / "x.pt", b"\x80\x02" + data), tmp_path
    )
    assert repr(torch._utils._rebuild_tensor_v2.__dict__) == before
    assert not hasattr(OrderedDict, "x")


def test_key_that_takes_ages_to_compare_is_refused(tmp_path: Path) -> None:
    doubled = b")" + b"2\x86" * 60  # a pair of a pair of … : 2^60 parts
    path = zipped(tmp_path / "slow.pt", b"\x80\x02}" + doubled + b"K\x01s.")
    assert "get the file again" in refusal(path, tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_instructions_without_end_are_refused(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpickling, "INSTRUCTION_LIMIT", 1_000)
    path = FORMS[form](tmp_path / "sets.pt", b"\x80\x02" + b"\x8f" * 1_000 + b".")
    assert "get the file again" in refusal(path, tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_list_that_is_copied_without_end_is_refused(tmp_path: Path, form: str) -> None:
    pairs = pickle.dumps([(str(number), None) for number in range(1_000)], 2)[2:-1]
    copies = b"ccollections\nOrderedDict\nr\xff\xff\x00\x00"
    data = b"\x80\x02" + pairs + b"\x85r\xfe\xff\x00\x00" + copies
    data += b"j\xff\xff\x00\x00j\xfe\xff\x00\x00R0" * 4_001 + b"."
    assert "get the file again" in refusal(FORMS[form](tmp_path / "copies.pt", data), tmp_path)


def test_tensors_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    """All of them lie in the same few numbers."""
    state = random_state(AVHUBERT, NARROW)
    shared = torch.zeros(max(value.numel() for value in state.values()))
    content = {name: shared[: value.numel()].view(value.shape) for name, value in state.items()}
    path = write(tmp_path / "shared.pt", {"model": content}, old=False)
    assert "together larger than the file" in refusal(path, tmp_path)


def test_attributes_without_end_are_refused(tmp_path: Path) -> None:
    """One module of many attributes, which another one holds many times."""
    inner = b"c__torch__\nNet\n)\x81" + b"}("
    inner += b"".join(pickle.dumps(str(n), 2)[2:-1] + b"K\x01" for n in range(400)) + b"ub"
    outer = b"r\xff\xff\x00\x000c__torch__\nNet\n)\x81}("
    outer += b"".join(pickle.dumps(str(n), 2)[2:-1] + b"j\xff\xff\x00\x00" for n in range(400))
    path = zipped(tmp_path / "many.pt", b"\x80\x02" + inner + outer + b"ub.")
    assert "more modules than any network" in refusal(path, tmp_path)


def test_names_without_end_are_refused(tmp_path: Path) -> None:
    key = pickle.dumps("k" * 500, 2)[2:-1]
    module = b"c__torch__\nNet\n)\x81}"
    path = zipped(tmp_path / "deep.pt", b"\x80\x02" + (module + key) * 3 + b"N" + b"sb" * 3 + b".")
    assert "more modules than any network" in refusal(path, tmp_path)


def test_modules_without_end_are_refused(tmp_path: Path) -> None:
    """Each module holds the next one twice: few bytes, 2^40 ways."""
    module = b"c__torch__\nNet\n)\x81"
    data = module + b"}b"
    for _ in range(40):
        data += b"q\x00" + b"0" + module + b"}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ub"
    path = zipped(tmp_path / "wide.pt", b"\x80\x02" + data + b".")
    assert "more modules than any network" in refusal(path, tmp_path)


def test_program_beside_the_tensors_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    code = f"import os\nos.system('touch {target}')\n".encode()
    data = b"\x80\x02c__torch__\nNet\n)\x81}b."
    path = zipped(tmp_path / "p.pt", data, **{"code/__torch__.py": code, "constants.pkl": b"\xff"})
    assert "holds no tensors" in refusal(path, tmp_path)
    assert not target.exists()


@pytest.fixture
def whole(tmp_path: Path) -> Callable[[bool], bytes]:
    def make(old: bool) -> bytes:
        content = {"model": random_state(AVHUBERT, NARROW)}
        return write(tmp_path / "whole.pt", content, old=old).read_bytes()

    return make


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9, 0.999])
def test_file_that_is_cut_off_is_refused(
    tmp_path: Path, whole: Callable[[bool], bytes], old: bool, share: float
) -> None:
    data = whole(old)
    path = tmp_path / "cut.pt"
    path.write_bytes(data[: int(len(data) * share)])
    assert "get the file again" in refusal(path, tmp_path)


def test_changed_byte_of_a_zip_archive_is_noticed(
    tmp_path: Path, whole: Callable[[bool], bytes]
) -> None:
    data = bytearray(whole(False))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        data[archive.getinfo("whole/data/0").header_offset + 400] ^= 1
    (tmp_path / "changed.pt").write_bytes(data)
    assert "damaged" in refusal(tmp_path / "changed.pt", tmp_path)


def test_storage_of_another_length_is_refused(tmp_path: Path) -> None:
    data = b"\x80\x02}X\x0b\x00\x00\x00netcnnaud.x" + tensor(0, (4,), (1,)) + b"s."
    path = zipped(tmp_path / "x.pt", data, **{"data/0": b"short"})
    with torch_files.TorchFile(path) as file, pytest.raises(ConfigError, match="not whole"):
        file.tensor(file.content["netcnnaud.x"])
    path = zipped(tmp_path / "y.pt", data)
    with torch_files.TorchFile(path) as file, pytest.raises(ConfigError, match="not whole"):
        file.tensor(file.content["netcnnaud.x"])


def test_packed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02]" + b"N0" * 1_000_000 + b".")
    assert path.stat().st_size < 10_000
    assert "packed or larger than torch writes it" in refusal(path, tmp_path)


def test_pickle_of_no_honest_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_files, "PICKLE_LIMIT", 100)
    data = b"\x80\x02]" + b"N0" * 60 + b"."
    path = zipped(tmp_path / "large.pt", data)
    assert "packed or larger than torch writes it" in refusal(path, tmp_path)
    monkeypatch.setattr(torch_files, "PICKLE_LIMIT", 200)
    assert "get the file again" in refusal(old_form(tmp_path / "old.pt", data), tmp_path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(8, 1, id="encrypted"),
        pytest.param(6, 99, id="unknown version"),
        pytest.param(46, 0xFF, id="name that is no text"),
    ],
)
@pytest.mark.parametrize("member", ["data.pkl", "data/0"])
def test_archive_with_an_odd_member_is_refused(
    tmp_path: Path, member: str, place: int, value: int
) -> None:
    data = b"\x80\x02}X\x01\x00\x00\x00x" + tensor(0, (4,), (1,)) + b"s."
    path = zipped(tmp_path / "odd.pt", data, **{"data/0": bytes(16)})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"archive/" + member.encode()) - 46
    content[entry + 9] |= 8 if value == 0xFF else 0  # names are UTF-8
    content[entry + place] = value
    path.write_bytes(content)
    with (
        pytest.raises(ConfigError, match="damaged or not whole"),
        torch_files.TorchFile(path) as file,
    ):
        file.tensor(file.content["x"])


def test_other_machines_order_of_bytes_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "big.pt", b"\x80\x02}.", byteorder=b"big")
    assert "big-endian" in refusal(path, tmp_path)
    heads = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": False})
    path.write_bytes(b"".join(pickle.dumps(head, 2) for head in heads))
    assert "big-endian" in refusal(path, tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no file of torch"),
        (b"GIF89a", "no file of torch"),
        (pickle.dumps([1], 2) * 3, "no file of torch"),
        (b"PK\x03\x04 and nothing more", "not whole"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "other").write_bytes(data)
    assert message in refusal(tmp_path / "other", tmp_path)


def test_other_archives_and_missing_files_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("one.jpg", b"")
    assert "not one of torch" in refusal(tmp_path / "photos.zip", tmp_path)
    assert "can't be read" in refusal(tmp_path / "none.pt", tmp_path)
    assert "can't be read" in refusal(tmp_path, tmp_path)


def test_weights_need_their_own_suffix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends with \.safetensors, not weights\.pt"):
        import_checkpoint(tmp_path / "any.pt", tmp_path / "weights.pt")
