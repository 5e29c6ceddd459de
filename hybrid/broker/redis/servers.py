"""Which server has a key, how to reach it, and what to do when it says that it is not the one.

One server, the primary that Sentinels name, or the primaries of a Cluster: the rest of the broker sees lines and
answers. Whatever a server refuses leaves here as one of hybrid's own errors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from hybrid.broker.redis import scripts
from hybrid.broker.redis.address import Address
from hybrid.broker.redis.line import TIMEOUT_S, Command, Line, Unanswered, Unreachable
from hybrid.errors import BrokerError

_log = logging.getLogger(__name__)

Server: TypeAlias = tuple[str, int] | None
"""One of a Cluster's servers; None for the only one, wherever it is now."""

VERSION_MIN: Final = (7, 0)
"""Sharded publishing and the scripts' commands are of Redis 7.0; Valkey began with 7.2."""
PATIENCE_S: Final = 2.0
"""How long a command is tried again while servers change their roles."""
_AGAIN_S: Final = 0.1  # between two such tries
_LOOK_S: Final = 10.0  # between two looks at who is the primary, or who has which slots
_SLOTS: Final = 16_384


class Servers:
    """See the module's text. `line` and `run` are all that is needed to ask; `connect` is for those who listen."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lines: dict[tuple[Server, str], Line] = {}
        self._watching: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._slots: list[Server] = []
        self._primary: tuple[str, int] | None = None
        self._sentinel: Sentinel | None = None
        self.on_moved: Callable[[], Awaitable[None]] | None = None
        """Called when slots have changed their server."""
        self.on_dropped: Callable[[], None] | None = None
        """Called when all connections are to be given up."""

    @property
    def is_cluster(self) -> bool:
        """Whether keys are spread over several servers."""
        return self._address.kind == "cluster"

    def lines(self) -> list[tuple[str, Line]]:
        """All lines there are, each with its purpose."""
        return [(purpose, line) for (_, purpose), line in self._lines.items()]

    # -- asking

    def server_of(self, key: bytes) -> Server:
        """Which server has a key, as far as is known. In a Cluster `ready` must have returned once."""
        if not self.is_cluster:
            return None
        return self._slots[key_slot(key)] if self._slots else self._address.hosts[0]

    def line(self, key: bytes, purpose: str = "") -> Line:
        """The line to the server that has a key; lines of different purposes do not wait for each other."""
        return self._line(self.server_of(key), purpose)

    async def ready(self) -> None:
        """Return when it is known who has what. Raises Unreachable."""
        if self.is_cluster and not self._slots:
            await self._refresh()

    async def run(self, key: bytes, *command: bytes | str | int, purpose: str = "") -> Any:
        """Ask the server that has `key`. Raises BrokerError; Unanswered when the outcome is not known."""
        await self.ready()
        return await self.answer(self.line(key, purpose).send(*command), key, command, purpose=purpose)

    async def answer(
        self, asked: asyncio.Future[Any], key: bytes, command: Command, *, purpose: str = "", is_safe: bool = True
    ) -> Any:
        """The answer to a command that was sent; see `followed`."""
        return (await self.followed(asked, key, command, self.line(key, purpose), purpose=purpose, is_safe=is_safe))[0]

    async def followed(
        self,
        asked: asyncio.Future[Any],
        key: bytes,
        command: Command,
        line: Line,
        *,
        purpose: str = "",
        is_safe: bool = True,
    ) -> tuple[Any, Line]:
        """The answer to a command that was sent on this line, following it where a server refers us to another one; and
        from where.

        `is_safe`: the command may be repeated when nobody knows whether it took effect. Raises BrokerError.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + PATIENCE_S
        while True:
            try:
                return await asked, line
            except ResponseError as error:
                if not self._is_temporary(error, key, purpose) or loop.time() >= deadline_s:
                    raise refusal(error) from None
                asked, line = await self._asked_again(error, key, command, purpose)
            except Unanswered:
                if not is_safe or loop.time() >= deadline_s:
                    raise
                await asyncio.sleep(_AGAIN_S)
                line = self.line(key, purpose)
                asked = line.send(*command)
            except Unreachable:
                self.refresh_soon()
                raise

    def eval(self, script: scripts.Script, keys: tuple[bytes, ...], *arguments: bytes | str | int) -> Command:
        """The command that carries a script out."""
        return ("EVALSHA", script.sha, len(keys), *keys, *arguments)

    async def run_script(
        self, script: scripts.Script, keys: tuple[bytes, ...], *arguments: bytes | str | int, purpose: str = ""
    ) -> Any:
        """`run` of a script on its first key's server."""
        return await self.run(keys[0], *self.eval(script, keys, *arguments), purpose=purpose)

    async def close(self) -> None:
        """End all connections. Safe to call twice."""
        for task in (self._watching, self._refreshing):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._is_closed = True
        for line in list(self._lines.values()):
            await line.close()
        await self._forget_sentinel()

    def start(self) -> None:
        """Begin to watch who is the primary, or who has which slots."""
        if self._address.kind != "single":
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    # -- connecting

    async def connect(self, server: Server) -> AbstractConnection:
        """A new connection, authenticated, to a server that is fit to be asked. Raises RedisError, OSError."""
        primary: tuple[str, int] | None = None
        if server is not None:
            host, port = server
        elif self._address.kind == "sentinel":
            host, port = primary = await self._ask_sentinels()
            self._found(primary)
        else:
            host, port = self._address.hosts[0]
        connection = _connection(host, port, self._address.is_tls, self._address.options)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await _prepare(connection, must_be_primary=self._address.kind == "sentinel")
            if self._address.kind == "sentinel" and self._primary != primary:
                raise RedisConnectionError("the primary has moved meanwhile")
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _ask_sentinels(self) -> tuple[str, int]:
        if self._sentinel is None:
            kwargs = {
                **_PATIENCE,
                # One after the other: all but the last may be mute, and there is still time to connect.
                "socket_connect_timeout": TIMEOUT_S / (len(self._address.hosts) + 1),
                "socket_timeout": TIMEOUT_S / (len(self._address.hosts) + 1),
                "protocol": 2,
                "ssl": self._address.is_tls,
                **self._address.sentinel_options,
            }
            self._sentinel = Sentinel(self._address.hosts, sentinel_kwargs=kwargs)  # type: ignore[no-untyped-call]
        found = await self._sentinel.discover_master(self._address.primary)
        return str(found[0]), int(found[1])

    async def _forget_sentinel(self) -> None:
        if self._sentinel is not None:
            for client in self._sentinel.sentinels:
                await client.aclose()
            self._sentinel = None

    # -- who has what

    def _line(self, server: Server, purpose: str) -> Line:
        line = self._lines.get((server, purpose))
        if line is None:
            if self._is_closed:  # nobody would close it
                raise BrokerError(None, "The broker is closed.")
            name = str(self._address) if server is None else f"Redis at {server[0]}:{server[1]}"
            line = self._lines[server, purpose] = Line(lambda: self.connect(server), name)
        return line

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                if self.is_cluster:
                    await self._refresh()
                elif self._primary is not None:
                    self._found(await self._ask_sentinels())
            except (RedisError, OSError, BrokerError) as error:
                _log.warning("%s: %s", self._address, error)

    def _found(self, primary: tuple[str, int]) -> None:
        """The Sentinels name this one. Whichever connection asked: all that are open to another one are given up."""
        former, self._primary = self._primary, primary
        if former is not None and former != primary:
            _log.warning("%s has moved to %s:%d", self._address, *primary)
            self.drop()

    def drop(self) -> None:
        """Give all present connections up, and ask anew who is the one to ask."""
        for line in self._lines.values():
            line.drop()
        if self.on_dropped is not None:
            self.on_dropped()

    def refresh_soon(self) -> None:
        """Ask who has which slots; a single server has them all."""
        if self.is_cluster and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.get_running_loop().create_task(self._read_slots())
            self._refreshing.add_done_callback(_retrieved)

    async def _refresh(self) -> None:
        self.refresh_soon()
        assert self._refreshing is not None
        await asyncio.shield(self._refreshing)

    async def _read_slots(self) -> None:
        """Ask any server that answers who has which slots. Raises Unreachable."""
        known = dict.fromkeys([*self._address.hosts, *(server for server in self._slots if server is not None)])
        for server in known:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    answer = await self._line(server, "").send("CLUSTER", "SLOTS")
            except (BrokerError, ResponseError, TimeoutError) as error:
                _log.debug("%s:%d does not tell the slots: %s", *server, error)
                continue
            slots: list[Server] = [None] * _SLOTS
            for first, last, primary, *_ in answer:
                host = (primary[0] or b"").decode() or server[0]
                slots[first : last + 1] = [(host, int(primary[1]))] * (last + 1 - first)
            if None in slots:
                continue  # in the middle of something; another one may know more
            has_changed = bool(self._slots) and slots != self._slots
            self._slots = slots
            if has_changed and self.on_moved is not None:
                await self.on_moved()
            return
        raise Unreachable(retry_after_s=1.0)

    # -- refusals

    def _is_temporary(self, error: ResponseError, key: bytes, purpose: str) -> bool:
        """Whether it is worth to try again; begins what makes it so."""
        if isinstance(error, ReadOnlyError):
            self.drop()  # a former primary
        return isinstance(
            error, NoScriptError | MovedError | AskError | TryAgainError | ClusterDownError | ReadOnlyError
        )

    async def _asked_again(
        self, error: ResponseError, key: bytes, command: Command, purpose: str
    ) -> tuple[asyncio.Future[Any], Line]:
        if isinstance(error, AskError):
            line = self._line((error.host, error.port), purpose)
            line.send("ASKING")
            return line.send(*command), line
        if isinstance(error, MovedError):
            self.refresh_soon()
            line = self._line((error.host, error.port), purpose)
            return line.send(*command), line
        if isinstance(error, NoScriptError):
            line = self.line(key, purpose)
            for script in scripts.ALL:
                line.send("SCRIPT", "LOAD", script.text)
            return line.send(*command), line
        if isinstance(error, ClusterDownError):
            self.refresh_soon()
        await asyncio.sleep(_AGAIN_S)
        line = self.line(key, purpose)
        return line.send(*command), line


def refusal(error: ResponseError) -> BrokerError:
    """What a peer is told when a server refuses a command; the server's words go to our log."""
    if isinstance(error, OutOfMemoryError) or str(error).startswith("OOM"):
        _log.error("Redis has reached its memory limit: %s", error)
        return BrokerError(None, "The broker's memory is full; try again later.", retry_after_s=5.0)
    if isinstance(error, NoPermissionError):
        _log.error("Redis does not permit what hybrid needs, see docs/redis.md: %s", error)
    else:
        _log.error("Redis refused a command: %s", error)
    return BrokerError(retry_after_s=1.0)


_PATIENCE: Final[dict[str, Any]] = {
    "socket_connect_timeout": TIMEOUT_S,
    "socket_timeout": TIMEOUT_S,
    "retry": Retry(NoBackoff(), 0),
}


def _connection(host: str, port: int, is_tls: bool, options: dict[str, Any]) -> AbstractConnection:
    kind = SSLConnection if is_tls else Connection
    return kind(
        host=host,
        port=port,
        protocol=2,
        client_name="hybrid",
        **{**_PATIENCE, "socket_timeout": None},  # the line has a watch of its own
        **options,
    )


async def _prepare(connection: AbstractConnection, *, must_be_primary: bool) -> None:
    """Check the server and load the scripts, in one round trip. Raises RedisError."""
    commands: list[Command] = [("INFO", "server"), ("ROLE",)] if must_be_primary else [("INFO", "server")]
    loads = [("SCRIPT", "LOAD", script.text) for script in scripts.ALL]
    await connection.send_packed_command(connection.pack_commands([*commands, *loads]), check_health=False)
    answers = [await connection.read_response(disable_decoding=True) for _ in (*commands, *loads)]
    check_version(answers[0])
    if must_be_primary and answers[1][0] != b"master":
        raise RedisConnectionError("the Sentinels name a server that is not a primary (yet)")


def check_version(info: bytes) -> None:
    """Raises BrokerError for a server that is too old. `info` is the answer to INFO server."""
    values = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
    text = values.get(b"redis_version", b"0").decode()
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    if version < VERSION_MIN:
        wanted = ".".join(map(str, VERSION_MIN))
        raise BrokerError(None, f"hybrid needs Redis {wanted} or Valkey; this is Redis {text}.")


def _retrieved(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
