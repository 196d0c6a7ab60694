"""The WebRTC connections of one process, whatever they carry: made by an offer, ended with care."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiortc
from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError, OperationError
from aiortc.sdp import candidate_from_sdp

from engine.errors import ConfigError
from stream.web.offer import MOST_CANDIDATES, OfferError

log = logging.getLogger(__name__)

_ANSWER_S: Final = 5.0  # to make an answer
_CONNECT_S: Final = 15.0  # from the answer to a connection; DTLS repeats lost packets slowly
_CLOSE_S: Final = 3.0
_ICE_STEPS_S: Final = 0.06  # three steps of aioice's checks
_CANDIDATE: Final = "candidate:"
_BUNDLE: Final = "a=group:BUNDLE "
_MID: Final = "a=mid:"
_CONNECT: Final = "_RTCPeerConnection__connect"


class PeersFullError(OfferError):
    """No further peer is taken now; its status is 503."""

    def __init__(self, message: str) -> None:
        super().__init__(503, message)


class PeerUse(Protocol):
    """What a connection is for: the sending or the receiving side of its media.

    All calls come on the event loop and return at once.
    """

    def prepare(self, connection: RTCPeerConnection) -> None:
        """Before the offer is set: add transceivers, listen for ``track``.

        Raises:
            OfferError: the connection is not to be.
        """
        ...

    def answered(self, connection: RTCPeerConnection) -> None:
        """The answer is set: codecs are known, and nothing is connected yet.

        Raises:
            OfferError: the connection is not to be.
        """
        ...

    def closed(self) -> None:
        """Once: the connection is gone, or was refused after ``prepare`` was called."""
        ...


@dataclass(eq=False, slots=True)
class _Peer:
    connection: RTCPeerConnection
    use: PeerUse
    mids: tuple[str, ...]
    """Of the offer; the first is the one whose transport all media use."""
    overdue: asyncio.TimerHandle | None = None
    candidates: int = 0


class Peers:
    """The connections of one process, each under a name that its owner chose.

    For one event loop alone.

    Args:
        most: at once, those included that are being connected.
        gone: called with the name of a peer that failed, hung up, or never connected; not of one
            that was ended here or refused.
        ice_servers: STUN and TURN servers to gather addresses from; aiortc uses one of each.

    Raises:
        ConfigError: the installed aiortc does not fit.
    """

    def __init__(
        self,
        *,
        most: int,
        gone: Callable[[str], None] = lambda name: None,
        ice_servers: Sequence[RTCIceServer] = (),
    ) -> None:
        _check_aiortc()
        self._most = most
        self._gone = gone
        self._ice_servers = [*ice_servers]
        self._peers: dict[str, _Peer] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, name: object) -> bool:
        return name in self._peers

    async def answer(self, name: str, sdp: str, use: PeerUse) -> str:
        """Take a peer.

        Args:
            name: not in use.
            sdp: its offer, checked; one BUNDLE.
            use: what the connection is for; ``closed`` is called on it when this raises as well,
                unless nothing was begun (``PeersFullError``).

        Returns:
            The answer, with all addresses of this computer.

        Raises:
            PeersFullError: every place is taken, or all is being closed.
            OfferError: it can't be answered (400, 422), or not in time (503).
        """
        if self._closed or len(self._peers) >= self._most:
            raise PeersFullError(f"All {self._most} places are taken; try again later.")
        if name in self._peers:
            raise ValueError(f"there is a peer {name!r} already")
        connection = RTCPeerConnection(RTCConfiguration(iceServers=self._ice_servers))
        _end_quietly(connection)
        peer = self._peers[name] = _Peer(connection, use, _mids(sdp))
        try:
            answer = await asyncio.wait_for(_negotiate(peer, sdp), _ANSWER_S)
            if self._peers.get(name) is not peer:  # ended meanwhile
                raise OfferError(503, "This computer takes no more connections; try again later.")
            use.answered(connection)
        except TimeoutError as error:
            self._remove(name, peer)
            raise OfferError(503, "This computer is too busy to answer.") from error
        except BaseException:
            self._remove(name, peer)
            raise
        self._watch(name, peer)
        return answer

    async def add_candidates(self, name: str, mid: str, lines: Sequence[str]) -> None:
        """Tell a peer's connection of addresses that came after its offer.

        Args:
            name: of the peer.
            mid: of the medium they were sent for; with one BUNDLE all have the same transport.
            lines: ``candidate:…``, checked, with or without ``a=``.

        Raises:
            OfferError: there is no such peer (404), or a line is malformed or one too many (400).
        """
        peer = self._peers.get(name)
        if peer is None:
            raise OfferError(404, "There is no such session; it may have ended already.")
        if mid not in peer.mids:
            raise OfferError(400, "The candidates are for a medium that was not offered.")
        peer.candidates += len(lines)
        if peer.candidates > MOST_CANDIDATES:
            raise OfferError(400, f"A session takes at most {MOST_CANDIDATES} candidates.")
        for line in lines:
            try:
                candidate = candidate_from_sdp(line.removeprefix("a=").removeprefix(_CANDIDATE))
                candidate.sdpMid = peer.mids[0]
                await peer.connection.addIceCandidate(candidate)
            except Exception as error:  # aiortc's parser: whatever int() and assert raise
                raise OfferError(400, "A candidate is malformed.") from error

    def end(self, name: str) -> bool:
        """Let a peer go; ``gone`` is not called. False where there is no such peer."""
        peer = self._peers.get(name)
        if peer is None:
            return False
        self._remove(name, peer)
        return True

    async def close(self) -> None:
        """End all peers; new ones are refused."""
        self._closed = True
        for name, peer in [*self._peers.items()]:
            self._remove(name, peer)
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_S)

    def _watch(self, name: str, peer: _Peer) -> None:
        """Remove the peer when its connection fails, ends, or does not come about."""
        connection = peer.connection

        def changed() -> None:
            if connection.connectionState == "connected" and peer.overdue is not None:
                peer.overdue.cancel()
            elif connection.connectionState in ("failed", "closed"):
                lost()

        def overdue() -> None:
            log.info("a peer did not connect")
            lost()

        def lost() -> None:
            if self._remove(name, peer):
                self._gone(name)

        peer.overdue = asyncio.get_running_loop().call_later(_CONNECT_S, overdue)
        connection.on("connectionstatechange", changed)
        changed()

    def _remove(self, name: str, peer: _Peer) -> bool:
        """False where it was removed before."""
        if self._peers.get(name) is not peer:
            return False
        del self._peers[name]
        if peer.overdue is not None:
            peer.overdue.cancel()
        peer.use.closed()
        task = asyncio.create_task(_close(peer.connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return True


async def _negotiate(peer: _Peer, sdp: str) -> str:
    connection = peer.connection
    peer.use.prepare(connection)
    try:
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        return str(connection.localDescription.sdp)
    except OperationError as error:
        raise OfferError(422, "Offer video as VP8 or H.264, and audio as Opus.") from error
    except Exception as error:
        # aiortc's parser meets what it does not expect with any kind of error.
        log.info("an offer was refused", exc_info=True)
        raise OfferError(400, "The offer can't be answered: it is malformed.") from error


def _mids(sdp: str) -> tuple[str, ...]:
    """The mids of an offer, first the one whose transport aiortc uses for all: BUNDLE's first."""
    lines = sdp.splitlines()
    mids = [line.removeprefix(_MID) for line in lines if line.startswith(_MID)]
    bundles = [line.removeprefix(_BUNDLE).split(" ") for line in lines if line.startswith(_BUNDLE)]
    first = bundles[0][0] if bundles else None
    return tuple(sorted(mids, key=lambda mid: mid != first))


def _end_quietly(connection: Any) -> None:
    """Keep what aiortc's task for connecting raises, where it is closed meanwhile, out of the log.

    Nobody waits for that task.
    """
    connect = getattr(connection, _CONNECT)

    async def quiet() -> None:
        with suppress(InvalidStateError):
            await connect()

    setattr(connection, _CONNECT, quiet)


async def _close(connection: RTCPeerConnection) -> None:
    transceivers = connection.getTransceivers()
    calls = [_ice(transceiver) for transceiver in transceivers]
    try:
        await asyncio.wait_for(connection.close(), _CLOSE_S)
        # aiortc's task for connecting may have started what was stopped just before.
        for transceiver in transceivers:
            await asyncio.wait_for(transceiver.stop(), _CLOSE_S)
        # aioice goes on where it is closed between two steps of its checks, and would then ask the
        # other side for its consent for half a minute; closed again, it does not.
        await asyncio.sleep(_ICE_STEPS_S)
        for call in calls:
            if call is not None:
                await asyncio.wait_for(call.close(), _CLOSE_S)
    except (TimeoutError, AttributeError, ConnectionError):
        # AttributeError: aiortc's transports of a connection that got stuck half way.
        log.warning("a connection did not close cleanly", exc_info=True)


def _ice(transceiver: RTCRtpTransceiver) -> Any:
    """What aioice knows the connection as; None where it got stuck half way."""
    dtls = transceiver.receiver.transport
    return getattr(getattr(dtls, "transport", None), "_connection", None)


def _check_aiortc() -> None:
    names = {
        f"RTCPeerConnection.{_CONNECT}": hasattr(RTCPeerConnection, _CONNECT),
        "RTCIceTransport._connection": "_connection" in RTCIceTransport.__init__.__code__.co_names,
    }
    missing = [name for name, there in names.items() if not there]
    if missing:
        raise ConfigError(
            f"aiortc {aiortc.__version__} has no {missing[0]}, so that connections can't be closed"
            " well; install aiortc 1.16."
        )
