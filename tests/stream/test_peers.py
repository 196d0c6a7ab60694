"""The connections of a process: they come, fail, hang up and go, and leave nothing behind."""

import asyncio
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiortc import (
    RTCConfiguration,
    RTCDtlsTransport,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import AudioStreamTrack
from aiortc.rtcrtpparameters import RTCRtpSendParameters

from engine.errors import ConfigError
from stream.web import peers as peers_module
from stream.web.offer import MOST_CANDIDATES, OfferError
from stream.web.peers import Peers, PeersFullError

pytestmark = pytest.mark.media


class Use:
    """Sends silence, and remembers what it was told."""

    def __init__(self, refuse: str | None = None) -> None:
        self.told: list[str] = []
        self._refuse = refuse
        self._track = AudioStreamTrack()

    def prepare(self, connection: RTCPeerConnection) -> None:
        self._tell("prepare")
        connection.addTransceiver(self._track, "sendonly")

    def answered(self, connection: RTCPeerConnection) -> None:
        assert connection.localDescription is not None
        self._tell("answered")

    def closed(self) -> None:
        self.told.append("closed")
        self._track.stop()

    def _tell(self, what: str) -> None:
        self.told.append(what)
        if what == self._refuse:
            raise OfferError(422, "Not that.")


@asynccontextmanager
async def remote() -> AsyncIterator[tuple[RTCPeerConnection, str]]:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("audio", "recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    try:
        yield connection, connection.localDescription.sdp
    finally:
        await peers_module._close(connection)


async def offered() -> str:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("audio", "recvonly")
    return str((await connection.createOffer()).sdp)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def join(peers: Peers, name: str, connection: RTCPeerConnection, sdp: str) -> Use:
    use = Use()
    answer = await peers.answer(name, sdp, use)
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await until(lambda: connection.connectionState == "connected")
    return use


async def test_a_peer_connects_and_is_ended() -> None:
    gone: list[str] = []
    peers = Peers(most=2, gone=gone.append)
    async with remote() as (connection, sdp):
        use = await join(peers, "ann", connection, sdp)
        assert ("ann" in peers, len(peers)) == (True, 1)
        assert use.told == ["prepare", "answered"]
        assert peers.end("ann")
        assert not peers.end("ann")
    assert use.told == ["prepare", "answered", "closed"]
    assert ("ann" in peers, len(peers)) == (False, 0)
    await peers.close()
    assert gone == []


async def test_a_peer_that_hangs_up_is_gone_by_itself() -> None:
    gone: list[str] = []
    peers = Peers(most=2, gone=gone.append)
    async with remote() as (connection, sdp):
        use = await join(peers, "ann", connection, sdp)
    await until(lambda: gone)
    assert (gone, use.told[-1], len(peers)) == (["ann"], "closed", 0)
    await peers.close()


async def test_a_peer_that_never_connects_is_gone_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers_module, "_CONNECT_S", 0.05)
    gone: list[str] = []
    peers = Peers(most=2, gone=gone.append)
    use = Use()
    await peers.answer("ann", await offered(), use)
    await until(lambda: gone)
    assert use.told == ["prepare", "answered", "closed"]
    await peers.close()


async def test_every_place_is_taken_until_one_is_free() -> None:
    peers = Peers(most=1)
    sdp = await offered()
    await peers.answer("ann", sdp, Use())
    late = Use()
    with pytest.raises(PeersFullError) as caught:
        await peers.answer("bob", sdp, late)
    assert caught.value.status == 503
    assert late.told == []  # nothing was begun
    peers.end("ann")
    await peers.answer("bob", sdp, Use())
    await peers.close()
    with pytest.raises(PeersFullError):
        await peers.answer("cleo", sdp, Use())


@pytest.mark.parametrize("when", ["prepare", "answered"])
async def test_a_use_may_refuse(when: str) -> None:
    gone: list[str] = []
    peers = Peers(most=1, gone=gone.append)
    use = Use(refuse=when)
    with pytest.raises(OfferError, match=r"Not that\."):
        await peers.answer("ann", await offered(), use)
    assert use.told[-2:] == [when, "closed"]
    assert (len(peers), gone) == (0, [])
    await peers.close()


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        pytest.param("opus/48000/2", "other/48000/2", 422, id="no codec in common"),
        pytest.param("a=setup:actpass", "a=setup:x", 400, id="malformed"),
    ],
)
async def test_what_cannot_be_answered_gets_a_status(old: str, new: str, status: int) -> None:
    peers = Peers(most=1)
    sdp = await offered()
    for codec in ("PCMU/8000", "PCMA/8000", "G722/8000"):
        sdp = sdp.replace(codec, "none/8000")
    use = Use()
    with pytest.raises(OfferError) as caught:
        await peers.answer("ann", sdp.replace(old, new), use)
    assert caught.value.status == status
    assert use.told == ["prepare", "closed"]
    assert len(peers) == 0
    await peers.close()


async def test_an_answer_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "_ANSWER_S", 0.05)

    async def slow(*_: Any) -> None:
        await asyncio.sleep(10)

    monkeypatch.setattr(RTCPeerConnection, "setLocalDescription", slow)
    peers, use = Peers(most=1), Use()
    with pytest.raises(OfferError) as caught:
        await peers.answer("ann", await offered(), use)
    assert caught.value.status == 503
    assert (use.told, len(peers)) == (["prepare", "closed"], 0)
    await peers.close()


async def test_a_peer_that_is_ended_while_it_is_answered_gets_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    create = RTCPeerConnection.createAnswer

    async def waiting(connection: RTCPeerConnection) -> Any:
        begun.set()
        await go.wait()
        return await create(connection)

    monkeypatch.setattr(RTCPeerConnection, "createAnswer", waiting)
    peers, use = Peers(most=1), Use()
    answering = asyncio.create_task(peers.answer("ann", await offered(), use))
    await begun.wait()
    assert peers.end("ann")
    go.set()
    with pytest.raises(OfferError):
        await answering
    assert use.told == ["prepare", "closed"]
    await peers.close()


# Candidates


async def test_a_connection_comes_about_by_candidates_that_came_later() -> None:
    peers = Peers(most=1)
    async with remote() as (connection, sdp):
        lines = [line for line in sdp.splitlines() if line.startswith("a=candidate:")]
        bare = "\r\n".join(line for line in sdp.splitlines() if "candidate" not in line) + "\r\n"
        answer = await peers.answer("ann", bare, Use())
        quiet = "\r\n".join(line for line in answer.splitlines() if "candidate" not in line)
        await connection.setRemoteDescription(RTCSessionDescription(quiet + "\r\n", "answer"))
        # The remote has no address of ours: it is us who call.
        await peers.add_candidates("ann", "0", lines)
        await until(lambda: connection.connectionState == "connected")
    await peers.close()


@pytest.mark.parametrize(
    ("name", "mid", "line", "status"),
    [
        pytest.param("bob", "0", "candidate:1 1 udp 1 192.0.2.1 9 typ host", 404, id="unknown"),
        pytest.param("ann", "7", "candidate:1 1 udp 1 192.0.2.1 9 typ host", 400, id="medium"),
        pytest.param("ann", "0", "candidate:1 1 udp", 400, id="short"),
        pytest.param("ann", "0", "candidate:1 x udp x 192.0.2.1 x typ host", 400, id="no numbers"),
    ],
)
async def test_candidates_that_are_none_are_refused(
    name: str, mid: str, line: str, status: int
) -> None:
    peers = Peers(most=1)
    await peers.answer("ann", await offered(), Use())
    with pytest.raises(OfferError) as caught:
        await peers.add_candidates(name, mid, [line])
    assert caught.value.status == status
    await peers.close()


async def test_a_session_takes_so_many_candidates_and_no_more() -> None:
    peers = Peers(most=1)
    await peers.answer("ann", await offered(), Use())
    line = "candidate:1 1 udp 1 192.0.2.1 9 typ host"
    with pytest.raises(OfferError, match="at most"):
        await peers.add_candidates("ann", "0", [line] * (MOST_CANDIDATES + 1))
    assert "ann" in peers
    await peers.close()


# What is left


async def one_of_each(peers: Peers) -> None:
    async with remote() as (connection, sdp):
        await join(peers, "ended", connection, sdp)
        peers.end("ended")
    async with remote() as (connection, sdp):
        await join(peers, "hung up", connection, sdp)
    for after_s in (0.0, 0.01, 0.03):
        async with remote() as (connection, sdp):
            answer = await peers.answer("ended half way", sdp, Use())
            await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            await asyncio.sleep(after_s)
            peers.end("ended half way")
    await peers.answer("never came", await offered(), Use())
    peers.end("never came")
    for refusal in ("prepare", "answered"):
        with pytest.raises(OfferError):
            await peers.answer("refused", await offered(), Use(refuse=refusal))
    malformed = (await offered()).replace("a=setup:actpass", "a=setup:x")
    with pytest.raises(OfferError):
        await peers.answer("malformed", malformed, Use())
    await until(lambda: not len(peers))


def left() -> tuple[int, int, int]:
    """Descriptors, threads and tasks."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(threading.enumerate()), len(asyncio.all_tasks())


@pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc lists")
async def test_joins_and_leaves_leave_nothing_behind() -> None:
    peers = Peers(most=16)
    await one_of_each(peers)
    await until(lambda: not peers._closing)
    before = left()
    for _ in range(6):
        await one_of_each(peers)
    await peers.close()
    assert not peers._closing
    await until(lambda: all(now <= then for now, then in zip(left(), before, strict=True)))


async def test_what_starts_to_send_while_it_is_closed_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closing = asyncio.Event()
    send, stop = RTCRtpSender.send, RTCDtlsTransport.stop

    async def late_send(sender: RTCRtpSender, parameters: RTCRtpSendParameters) -> None:
        await closing.wait()
        await send(sender, parameters)

    async def late_stop(transport: RTCDtlsTransport) -> None:
        closing.set()  # by now the sender is told to stop
        await asyncio.sleep(0)
        await stop(transport)

    monkeypatch.setattr(RTCRtpSender, "send", late_send)
    monkeypatch.setattr(RTCDtlsTransport, "stop", late_stop)
    peers, before = Peers(most=1), asyncio.all_tasks()
    async with remote() as (connection, sdp):
        await join(peers, "ann", connection, sdp)
        assert not closing.is_set()
        peers.end("ann")
        await until(lambda: not peers._closing)
    await until(lambda: asyncio.all_tasks() <= before)
    await peers.close()


async def test_an_aiortc_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RTCIceTransport, "__init__", lambda self: None)
    with pytest.raises(ConfigError, match=r"RTCIceTransport\._connection"):
        Peers(most=1)
