"""Which languages are spoken by processes: translators that are dialled, and pcm:// doors."""

from __future__ import annotations

from collections.abc import Sequence

from stream.core.intake import PushedIntake
from stream.live.pcm import PcmServer, parse_pcm_url
from stream.relay.config import Translator
from stream.relay.room.crew import Crew
from stream.relay.room.language import Language
from stream.relay.room.speaker import RoomSpeaker
from stream.relay.room.translator import WebSocketTranslator


class Translations:
    """The translating processes of a room, one for each speaker and language that was ordered.

    Args:
        orders: all there are.
        room: the room's name.
    """

    def __init__(self, orders: Sequence[Translator], room: str) -> None:
        self._orders = orders
        self._room = room
        self._crews: dict[str, Crew] = {}
        self._translators: dict[str, list[WebSocketTranslator]] = {}

    def begin(self, speaker: RoomSpeaker, origin_s: float) -> None:
        """Let the ordered languages be spoken for a speaker.

        Args:
            speaker: who has just come.
            origin_s: when the next tick begins, on the room's clock.
        """
        crew = self._crews[speaker.name] = Crew()
        translators = self._translators[speaker.name] = []
        for order in self._orders:
            if order.fits(self._room, speaker.name):
                language = speaker.add(order.language, origin_s)
                self._begin(order, language, crew, translators)

    def _begin(
        self,
        order: Translator,
        language: Language,
        crew: Crew,
        translators: list[WebSocketTranslator],
    ) -> None:
        intake = language.process = PushedIntake()
        if order.url.startswith("pcm://"):
            host, port = parse_pcm_url(order.url)
            crew.start(PcmServer(host, port, intake).run())
            return
        translator = WebSocketTranslator(
            order.url,
            order.language,
            intake,
            added_delay_s=lambda: language.line.delay.seconds,
        )
        language.process_trouble = lambda: translator.trouble
        language.lag_s = lambda: translator.lag_s
        translators.append(translator)
        crew.start(translator.run())

    def said(self, speaker: RoomSpeaker, now: float) -> None:
        """A speaker's voice of the last tick, for all who translate it."""
        for translator in self._translators[speaker.name]:
            translator.speaking(speaker.speaking)
            translator.send(speaker.said, now)

    async def end(self, speaker: RoomSpeaker) -> None:
        """A speaker is gone."""
        self._translators.pop(speaker.name, None)
        crew = self._crews.pop(speaker.name, None)
        if crew is not None:
            await crew.end()
