"""Whether a replica has what was appended: `WAIT`, asked once for all that wait for it at the same time.

WAIT speaks of what its own connection has seen, and holds everything behind it up. So it has to go over the connection
that carried the append (on the next one, behind a failover, it would confirm what the new primary never had), and
there is never more than one under way on a line: without a replica each takes a second, whoever comes meanwhile shares
the next one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from redis.exceptions import ResponseError

from hybrid.broker.redis.line import Line
from hybrid.errors import BrokerError

_log = logging.getLogger(__name__)

_WAIT_MS: Final = 1_000  # for a replica; below the time after which a line counts as broken


class Replicas:
    """See the module's text."""

    def __init__(self) -> None:
        self._next: dict[Line, asyncio.Task[int]] = {}
        self._turns: dict[Line, asyncio.Lock] = {}

    async def have(self, line: Line, life: int) -> bool:
        """Whether a replica has all that was answered on this connection of a line (`life`). Never raises BrokerError.

        Cancel-safe.
        """
        waiting = self._next.get(line)
        if waiting is None:
            waiting = self._next[line] = asyncio.get_running_loop().create_task(self._wait(line))
        return await asyncio.shield(waiting) == life

    async def _wait(self, line: Line) -> int:
        """The connection whose appends a replica has; 0 for none."""
        async with self._turns.setdefault(line, asyncio.Lock()):
            del self._next[line]  # who comes from now on may have appended behind this WAIT
            life = line.life
            try:
                replicas = await line.send("WAIT", 1, _WAIT_MS)
            except ResponseError as error:
                _log.error("Redis refused to say what its replicas have: %s", error)
                return 0
            except BrokerError:
                return 0
            return life if replicas >= 1 and line.life == life else 0
