"""The beat of a session: every 20 ms of its clock, none left out."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from stream.core.sound import TICK_S
from stream.live.clock import SessionClock

_ASLEEP_S: Final = 2.0  # behind by more, the machine slept and the session goes on where it was


async def ticks(clock: SessionClock) -> AsyncIterator[float]:
    """Come once at the end of each tick of 20 ms since the clock's start.

    Whoever falls behind catches up without pauses; where the whole machine slept, time is taken
    out of the clock instead.

    Args:
        clock: the session's.

    Yields:
        Session seconds now.
    """
    tick = 0
    while True:
        tick += 1
        wait_s = tick * TICK_S - clock()
        if wait_s < -_ASLEEP_S:
            clock.hold_back(-wait_s)
        await asyncio.sleep(max(wait_s, 0.0))
        yield clock()
