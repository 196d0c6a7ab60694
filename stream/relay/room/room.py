"""A room: its speakers, interpreters and listeners, in one process and on one clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from stream.core.floor import FloorRouter
from stream.core.sound import TICK_S, Sound
from stream.live.ticks import ticks
from stream.relay.refusal import Refusal
from stream.relay.room.floor_voice import FloorVoice
from stream.relay.room.language import Language, network_intake
from stream.relay.room.publications import FLOOR, Place, Publications
from stream.relay.room.speaker import RoomSpeaker
from stream.relay.room.state import room_state
from stream.relay.room.translations import Translations
from stream.relay.room.workshop import Workshop
from stream.web.offer import OfferError
from stream.web.peers import Peers
from stream.web.publisher import Publisher
from stream.web.viewer import Viewer, offered_kinds

log = logging.getLogger(__name__)

MOST_SPEAKERS: Final = 16
MOST_LANGUAGES: Final = 16
"""Of one speaker."""

_HOUSEKEEPING_S: Final = 1.0
_SOURCE_RETRY_S: Final = 1


class Room:
    """Holds one meeting.

    All methods are for the event loop; requests come from the front process.

    Args:
        name: of the room.
        workshop: what its speakers share.
        peers: how many may be connected, publishers and listeners together.
        translations: which languages processes speak.
        ended: told of each resource that is gone by itself.
    """

    def __init__(
        self,
        name: str,
        workshop: Workshop,
        *,
        peers: int,
        translations: Translations,
        ended: Callable[[str], None],
    ) -> None:
        self.name = name
        self.speakers: dict[str, RoomSpeaker] = {}
        self.floor: dict[str, FloorVoice] = {}
        self.router = FloorRouter()
        self.peers = Peers(most=peers, gone=self._gone)
        self.publications = Publications()
        self.uses: dict[str, Publisher | Viewer] = {}
        self.empty_since: float | None = 0.0
        self.closed = asyncio.Event()
        self._workshop = workshop
        self._translations = translations
        self._ended = ended
        self._tick = 0

    async def run(self) -> None:
        """Hold the meeting until it is closed or this is cancelled; then let everybody go."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(job()) for job in (self._beat, self._keep_house)]
                try:
                    await self.closed.wait()
                finally:
                    for task in tasks:
                        task.cancel()
        finally:
            await self.peers.close()
            for name in [*self.speakers]:
                await self._drop_speaker(name)

    # Requests

    async def publish(
        self, speaker: str, language: str | None, offer: str, resource: str
    ) -> dict[str, Any]:
        """Take a publisher; whoever published in the same place before is let go.

        Args:
            speaker: a name, or ``floor``.
            language: None for the speaker's own camera and voice.
            offer: its SDP, checked.
            resource: names the connection from now on.

        Returns:
            ``answer``: the SDP.

        Raises:
            Refusal: it can't be taken.
        """
        place, now = Place(speaker, language), self._workshop.clock()
        if self.closed.is_set():
            raise Refusal(410, "The host has ended this meeting.")
        if self.publications.barred_s(place, now):
            raise Refusal(403, "The host of this meeting has removed you.")
        self._check_room_for(place)
        intake = network_intake()
        pictures = self._speaker(speaker).camera.put if language is None else None
        publisher = Publisher(self._workshop.clock, intake=intake, pictures=pictures)
        answer = await self._answer(resource, offer, publisher)
        before = self.publications.taken(place, resource)
        if before is not None and self._let_go(before):
            self._ended(before)
        self.empty_since = None
        if language is None:
            self._speaker(speaker).source = intake
        elif speaker == FLOOR:
            self._floor_voice(language).intake = intake
        else:
            self._language(speaker, language).person = intake
        return {"answer": answer}

    async def listen(
        self, speaker: str, language: str | None, offer: str, resource: str
    ) -> dict[str, Any]:
        """Take a listener of a language, or of the original.

        Args:
            speaker: a name.
            language: None for the original.
            offer: its SDP, checked.
            resource: names the connection from now on.

        Returns:
            ``answer``: the SDP.

        Raises:
            Refusal: there is nothing to be seen yet, or no place left.
        """
        found = self.speakers.get(speaker)
        heard = None if found is None or language is None else found.languages.get(language)
        if found is None or (language is not None and heard is None):
            raise Refusal(409, "Nobody speaks there yet; try again soon.", _SOURCE_RETRY_S)
        broadcast = found.broadcast if heard is None else heard.broadcast
        if not broadcast.live:
            raise Refusal(409, "There is no picture yet; try again soon.", _SOURCE_RETRY_S)
        viewer = Viewer(broadcast, "output", offered_kinds(offer))
        return {"answer": await self._answer(resource, offer, viewer)}

    def end(self, resource: str) -> None:
        """A peer hung up.

        Raises:
            Refusal: there is no such peer.
        """
        if not self._let_go(resource):
            raise Refusal(404, "There is no such session; it may have ended already.")
        self.publications.left(resource, self._workshop.clock())
        self._settle()

    def remove(self, speaker: str, language: str | None) -> None:
        """Let a publisher go and not in again for a while.

        Raises:
            Refusal: nobody publishes there.
        """
        place = Place(speaker, language)
        resource = self.publications.remove(place, self._workshop.clock())
        if resource is None:
            raise Refusal(404, "Nobody publishes there.")
        self._let_go(resource)
        self._ended(resource)
        self._settle()

    def mute(self, speaker: str, language: str | None, muted: bool) -> None:
        """Let a voice be heard nowhere, or again.

        Raises:
            Refusal: there is no such voice.
        """
        found: RoomSpeaker | Language | FloorVoice | None
        if speaker == FLOOR:
            found = None if language is None else self.floor.get(language)
        else:
            found = self.speakers.get(speaker)
            if found is not None and language is not None:
                found = found.languages.get(language)
        if found is None:
            raise Refusal(404, "Nobody speaks there.")
        found.muted = muted

    def lip_sync(self, speaker: str, on: bool) -> None:
        """Change a speaker's lips, or leave them as they are.

        Raises:
            Refusal: there is no such speaker.
        """
        if speaker not in self.speakers:
            raise Refusal(404, "There is no such speaker.")
        self.speakers[speaker].lip_sync = on

    def close(self) -> None:
        """The host ends the meeting: everybody is let go, and nobody is let in any more."""
        self.closed.set()

    def idle_s(self) -> float:
        """For how long nobody has published; 0 while somebody does."""
        return 0.0 if self.empty_since is None else self.now() - self.empty_since

    def now(self) -> float:
        """Room seconds."""
        return self._workshop.clock()

    def state(self) -> dict[str, Any]:
        """The room as pages show it; JSON values."""
        return room_state(self)

    # Every 20 ms

    async def _beat(self) -> None:
        async for now in ticks(self._workshop.clock):
            self._workshop.metrics.loop_lag(max(0.0, now - (self._tick + 1) * TICK_S))
            floor = self._hear_floor(now)
            for name, speaker in self.speakers.items():
                mine = {code: sound for code, (whose, sound) in floor.items() if whose == name}
                speaker.tick(now, mine)
                self.router.heard(name, speaker.speaking, now)
                self._translations.said(speaker, now)
            self._tick += 1

    def _hear_floor(self, now: float) -> dict[str, tuple[str | None, Sound]]:
        """What each floor interpreter says, and for whom."""
        heard = {}
        for code, voice in self.floor.items():
            sound = voice.hear(now)
            heard[code] = self.router.route(code, voice.speaking, now), sound
        return heard

    # Who is there

    async def _answer(self, resource: str, offer: str, use: Publisher | Viewer) -> str:
        try:
            answer = await self.peers.answer(resource, offer, use)
        except OfferError as error:
            raise Refusal(error.status, str(error)) from error
        self.uses[resource] = use
        return answer

    def _check_room_for(self, place: Place) -> None:
        speaker = self.speakers.get(place.speaker)
        if speaker is None:
            if place.speaker != FLOOR and place.language is not None:
                raise Refusal(409, "This speaker is not there yet; try again soon.", 2)
            if place.speaker != FLOOR and len(self.speakers) >= MOST_SPEAKERS:
                raise Refusal(503, f"All {MOST_SPEAKERS} places for speakers are taken.", 30)
        languages = self.floor if speaker is None else speaker.languages
        new = place.language is not None and place.language not in languages
        if new and len(languages) >= MOST_LANGUAGES:
            raise Refusal(503, f"All {MOST_LANGUAGES} places for languages are taken.", 30)

    def _speaker(self, name: str) -> RoomSpeaker:
        speaker = self.speakers.get(name)
        if speaker is None:
            speaker = self.speakers[name] = RoomSpeaker(name, self._workshop, self._origin_s)
            speaker.start()
            self._translations.begin(speaker, self._origin_s)
            self._settle()
        return speaker

    def _language(self, speaker: str, code: str) -> Language:
        return self.speakers[speaker].add(code, self._origin_s)

    def _floor_voice(self, code: str) -> FloorVoice:
        if code not in self.floor:
            self.floor[code] = FloorVoice(self._origin_s)
            self._settle()
        return self.floor[code]

    @property
    def _origin_s(self) -> float:
        """Where the tick begins that comes next."""
        return self._tick * TICK_S

    def _let_go(self, resource: str) -> bool:
        """End a connection; False where there is none."""
        self.uses.pop(resource, None)
        return self.peers.end(resource)

    def _gone(self, resource: str) -> None:
        """A peer is gone by itself."""
        self.uses.pop(resource, None)
        self.publications.left(resource, self._workshop.clock())
        self._ended(resource)
        self._settle()

    def _settle(self) -> None:
        """Let voices sound or not, as publishers have come and gone."""
        for name, speaker in self.speakers.items():
            if self.publications.resource(Place(name, None)) is None:
                speaker.source = None
            for code, voice in self.floor.items():
                if voice.intake is not None:
                    speaker.add(code, self._origin_s).floor = True
            for code, language in speaker.languages.items():
                if self.publications.resource(Place(name, code)) is None:
                    language.person = None
                if code not in self.floor:
                    language.floor = False
        for code, voice in self.floor.items():
            if self.publications.resource(Place(FLOOR, code)) is None:
                voice.intake = None

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            now = self._workshop.clock()
            for place in self.publications.over(now):
                await self._over(place)
            for speaker in self.speakers.values():
                speaker.measure()
            if not len(self.publications) and self.empty_since is None:
                self.empty_since = now

    async def _over(self, place: Place) -> None:
        """Nobody published here for a while."""
        if place.speaker == FLOOR:
            assert place.language is not None
            self.floor.pop(place.language, None)
            self.router.end(place.language)
            self._settle()
            speakers = [*self.speakers.values()]
        elif place.language is None:
            await self._drop_speaker(place.speaker)
            return
        else:
            speakers = [self.speakers[place.speaker]] if place.speaker in self.speakers else []
        for speaker in speakers:
            language = speaker.languages.get(place.language or "")
            if language is not None and language.source is None:
                await speaker.drop(language.code)

    async def _drop_speaker(self, name: str) -> None:
        speaker = self.speakers.pop(name, None)
        if speaker is not None:
            self.router.left(name, self._workshop.clock())
            await self._translations.end(speaker)
            await speaker.end()
