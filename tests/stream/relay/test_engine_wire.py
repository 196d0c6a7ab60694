"""What goes over the wire comes out the same, and nothing else comes out at all."""

import random
from dataclasses import replace
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

from engine.bundle import load_bundle
from engine.generator import MAX_FRAMES, Chunk
from stream.relay.engine.memory import Layout, attach, fingerprint
from stream.relay.engine.wire import (
    MAX_MESSAGE,
    Challenge,
    Close,
    Done,
    Failed,
    Failure,
    Hello,
    Message,
    Open,
    Opened,
    Ready,
    Replace,
    Step,
    WireError,
    pack,
    prove,
    proves,
    unpack,
)

pytestmark = pytest.mark.unit

MESSAGES: tuple[Message, ...] = (
    Challenge(bytes(range(32))),
    Hello(b"p" * 32, b"n" * 32, b"b" * 32),
    Ready(b"q" * 32),
    Open("psm_12ab"),
    Opened(3),
    Replace(2**32 - 1),
    Step(0.2, {0: 1, 7: 16}),
    Step(0.0, dict.fromkeys(range(64), 5)),
    Close(0),
    Done(),
    Failed(Failure.FULL, "All 8 places are taken; try again."),
    Failed(Failure.FULL, "All 8 places are taken; try again in 10 seconds.", 10),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    data = pack(message)
    assert len(data) <= MAX_MESSAGE
    assert unpack(data) == message


def test_a_long_sentence_is_cut() -> None:
    failed = unpack(pack(Failed(Failure.FINAL, "é" * 2000)))
    assert isinstance(failed, Failed)
    assert failed.text.startswith("é" * 500)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x00" + b"n" * 31,
        pack(Done()) + b"x",
        pack(Opened(1))[:-1],
        pack(Open("psm_1"))[:1],
        pack(Open("x"))[:1] + b"../shm",
        pack(Open("x"))[:1] + b"x" * 65,
        pack(Step(0.2, {})),
        pack(Step(0.2, {1: 0})),
        pack(Step(0.2, {1: MAX_FRAMES + 1})),
        pack(Step(float("nan"), {1: 1})),
        pack(Step(-1.0, {1: 1})),
        pack(Step(0.2, dict.fromkeys(range(65), 1))),
        pack(Step(0.2, {1: 5}))[:9] + b"\x02\x00" + pack(Step(0.2, {1: 5}))[11:] * 2,
        pack(Failed(Failure.FULL, ""))[:1] + b"\x09",
        b"\x09" * (MAX_MESSAGE + 1),
    ],
    ids=[
        "empty",
        "unknown-kind",
        "short-nonce",
        "done-and-more",
        "short-slot",
        "no-block",
        "block-with-path",
        "long-block",
        "no-slot",
        "no-frame",
        "too-many-frames",
        "no-deadline",
        "deadline-past",
        "too-many-slots",
        "slot-twice",
        "unknown-failure",
        "too-long",
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack(data)


def test_changed_messages_are_read_or_refused_and_nothing_else() -> None:
    rng = random.Random(4)
    for _ in range(20_000):
        data = bytearray(pack(rng.choice(MESSAGES)))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            message = unpack(bytes(data[: rng.randint(0, len(data))]))
        except WireError:
            continue
        assert unpack(pack(message)) == message


def test_a_proof_holds_for_its_key_side_and_nonce() -> None:
    proof = prove(b"key", b"room", b"nonce")
    assert proves(proof, b"key", b"room", b"nonce")
    assert not proves(proof, b"other", b"room", b"nonce")
    assert not proves(proof, b"key", b"engine", b"nonce")
    assert not proves(proof, b"key", b"room", b"other")


def test_bundles_are_told_apart() -> None:
    bundle = load_bundle()
    again = replace(bundle, folder=Path("elsewhere"))
    assert fingerprint(bundle) == fingerprint(again)
    assert fingerprint(bundle) != fingerprint(replace(bundle, resolution=128))
    assert fingerprint(bundle) != fingerprint(replace(bundle, sha256={"generator.onnx": "0"}))


def test_what_lies_in_a_block_overlaps_with_nothing() -> None:
    layout = Layout(side=8, height=5, bands=3, columns=7)
    rng = np.random.default_rng(0)
    mel = rng.normal(size=(MAX_FRAMES, 1, 3, 7)).astype(np.float32)
    pose = rng.integers(0, 256, (MAX_FRAMES, 8, 8, 3), dtype=np.uint8)
    identity = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    rows = rng.integers(0, 256, (MAX_FRAMES, 5, 8, 3), dtype=np.uint8)
    block = SharedMemory(create=True, size=layout.size)
    other = attach(block.name)
    block.unlink()
    assert layout.fits(other)
    layout.write_identity(block, identity)
    layout.write_chunk(block, Chunk(mel=mel, pose=pose))
    layout.write_rows(other, rows)
    chunk = layout.read_chunk(other, MAX_FRAMES)
    np.testing.assert_array_equal(chunk.mel, mel)
    np.testing.assert_array_equal(chunk.pose, pose)
    np.testing.assert_array_equal(layout.read_identity(other), identity)
    np.testing.assert_array_equal(layout.read_rows(block, MAX_FRAMES), rows)
    np.testing.assert_array_equal(layout.read_rows(block, 2), rows[:2])
    block.close()
    other.close()


@pytest.mark.parametrize("size", [1, 1 << 20], ids=["small", "large"])
def test_a_block_of_another_size_does_not_fit(size: int) -> None:
    layout = Layout(side=8, height=5, bands=3, columns=7)
    block = SharedMemory(create=True, size=size)
    block.unlink()
    assert not layout.fits(block)
    block.close()


def test_a_block_that_does_not_exist_is_not_made() -> None:
    with pytest.raises(FileNotFoundError):
        attach("psm_no_such_block")
