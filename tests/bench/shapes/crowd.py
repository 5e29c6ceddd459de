"""Many clients in one process and one thread: `python -m tests.bench.shapes.crowd`, driven by lines of JSON.

It reads what comes for all that are not told to be slow, checks every publication, and answers an order when what it
asks for has come to pass. Orders:

- `open` a group of clients, some at a time, until all are subscribed
- `expect` so many publications in all since the last `start`
- `start` to count anew; `report` what came since, what was wrong, and the latencies
- `pause` a group: it is read no more; `resume` it
- `leave`: a group's connections are cut, as by a network that fails; `back`: all of it comes back at once, and
  has everything up to an offset
- `close` a group for good
"""

from __future__ import annotations

import errno
import heapq
import itertools
import json
import os
import random
import selectors
import time
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from tests.bench.shapes.client import Broken, Client, Refused
from tests.bench.shapes.descriptors import raise_limit

OPENING_AT_ONCE: Final = 16
STALLED_S: Final = 30.0
_READ: Final = selectors.EVENT_READ
_CONNECTED: Final = selectors.EVENT_WRITE
_BUFFER_BYTES: Final = 1 << 18
RESET_BY_KERNEL: Final = "a connection was reset before it was answered"
_BACKOFF_S: Final = (0.5, 1.5)


class Crowd:
    """See the module's text."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._address = ("127.0.0.1", int(order["port"]))
        self._host = str(order["host"])
        self._source = f"127.0.0.{2 + order['number']}"
        self._selector = selectors.DefaultSelector()
        self._groups: dict[str, list[Client]] = {}
        self._latencies_ns = array("q")
        self._came = 0
        self._left = 0  # connections that the server ended
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._due: list[tuple[float, int, Client]] = []
        self._receive_bytes: int | None = None
        self._ready: Callable[[Client], None] = lambda client: None
        self._reached: Callable[[Client], None] = lambda client: None
        self._refused = 0
        self._failed: Counter[str] = Counter()
        self._comes_back = False
        self._order = itertools.count()

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, f"_do_{order.pop('do')}")(**order) or {}
        return answer

    def pass_time(self) -> None:
        """Read what comes while there is no order."""
        self._selector.register(0, _READ, None)
        try:
            while not any(key.fileobj == 0 for key, _ in self._turn(1.0)):
                pass
        finally:
            self._selector.unregister(0)

    # -- orders

    def _do_open(
        self,
        group: str,
        kind: str,
        tokens: list[str],
        channels: list[list[str]],
        receive_bytes: int | None = None,
    ) -> None:
        clients = [Client(kind, token, names) for token, names in zip(tokens, channels, strict=True)]
        self._groups.setdefault(group, []).extend(clients)
        self._receive_bytes = receive_bytes
        waiting = iter(clients)
        open_ = 0

        def ready(client: Client) -> None:
            nonlocal open_
            open_ += 1
            for following in waiting:
                self._connect(following)
                break

        self._ready = ready
        for _, client in zip(range(OPENING_AT_ONCE), waiting, strict=False):
            self._connect(client)
        self._until(lambda: open_ == len(clients), lambda: f"{len(clients) - open_} clients wait to be subscribed")

    def _do_start(self) -> None:
        self._came = self._left = 0
        del self._latencies_ns[:]
        for client in self._all():
            client.count = client.wrong = client.resets = 0

    def _do_expect(self, publications: int) -> dict[str, Any]:
        self._until(lambda: self._came >= publications, lambda: f"{publications - self._came} publications are missing")
        return {"at_ns": time.monotonic_ns()}

    def _do_report(self) -> dict[str, Any]:
        counts = sorted(client.count for client in self._all())
        latencies_ms = sorted(latency / 1e6 for latency in self._latencies_ns)
        return {
            "came": self._came,
            "left": self._left,
            "wrong": sum(client.wrong for client in self._all()),
            "resets": sum(client.resets for client in self._all()),
            "least": counts[0] if counts else 0,
            "most": counts[-1] if counts else 0,
            "latencies_ms": [latencies_ms[len(latencies_ms) * part // 100] for part in (50, 99)]
            if latencies_ms
            else [],
            "latest_ms": latencies_ms[-1] if latencies_ms else 0.0,
        }

    def _do_settle(self, quiet_s: float) -> None:
        end_s = time.monotonic() + quiet_s
        while time.monotonic() < end_s:
            before = self._came
            self._turn(0.05)
            if self._came != before:
                end_s = time.monotonic() + quiet_s

    def _do_pause(self, group: str) -> None:
        for client in self._groups[group]:
            self._selector.unregister(client.socket)  # type: ignore[arg-type]  # it is open

    def _do_resume(self, group: str, offset: int) -> dict[str, Any]:
        """Until each has the publication of this offset on its only channel, or was told of a reset."""
        began_s = time.monotonic()
        for client in self._groups[group]:
            self._selector.register(client.socket, _READ, client)  # type: ignore[arg-type]
        return self._reach(group, offset, began_s)

    def _do_leave(self, group: str) -> None:
        for client in self._groups[group]:
            self._hang_up(client)

    def _do_back(self, group: str, offset: int, receive_bytes: int | None = None) -> dict[str, Any]:
        self._refused = 0
        self._failed.clear()
        self._comes_back = True
        self._receive_bytes = receive_bytes
        self._ready = lambda client: None
        began_s = time.monotonic()
        for client in self._groups[group]:
            self._connect(client)
        try:
            reached = self._reach(group, offset, began_s)
        finally:
            self._comes_back = False
        return reached | {"refused": self._refused, "broken": dict(self._failed)}

    def _do_close(self, group: str) -> None:
        self._do_leave(group)
        del self._groups[group]

    # -- the insides

    def _all(self) -> list[Client]:
        return [client for clients in self._groups.values() for client in clients]

    def _reach(self, group: str, offset: int, began_s: float) -> dict[str, Any]:
        def has_it(client: Client) -> bool:
            return client.is_ready and (client.offset >= offset or client.resets > 0)

        missing = {id(client) for client in self._groups[group] if not has_it(client)}
        times_s = [0.0] * (len(self._groups[group]) - len(missing))

        def reached(client: Client) -> None:
            if has_it(client) and id(client) in missing:
                missing.discard(id(client))
                times_s.append(time.monotonic() - began_s)

        self._reached = reached
        try:
            self._until(
                lambda: not missing,
                lambda: (
                    f"{len(missing)} clients have not got everything: "
                    + ", ".join(client.state for client in self._groups[group] if id(client) in missing)[:400]
                ),
            )
        finally:
            self._reached = lambda client: None
        times_s.sort()
        told = sum(client.resets > 0 for client in self._groups[group])
        return {"told": told, "times_s": [times_s[len(times_s) * part // 100] for part in (50, 99)] + [times_s[-1]]}

    def _connect(self, client: Client) -> None:
        client.connect(self._address, self._source, self._receive_bytes)
        self._selector.register(client.socket, _CONNECTED, client)  # type: ignore[arg-type]

    def _hang_up(self, client: Client) -> None:
        if client.socket is not None:
            if client.socket in self._selector.get_map():
                self._selector.unregister(client.socket)
            client.close()

    def _until(self, is_done: Callable[[], bool], what: Callable[[], str]) -> None:
        last_s = time.monotonic()
        while not is_done():
            if self._turn(0.5):
                last_s = time.monotonic()
            elif not self._due and time.monotonic() - last_s > STALLED_S:
                raise Broken(what())

    def _turn(self, most_s: float) -> list[tuple[selectors.SelectorKey, int]]:
        now_s = time.monotonic()
        while self._due and self._due[0][0] <= now_s:
            self._connect(heapq.heappop(self._due)[2])
        if self._due:
            most_s = min(most_s, self._due[0][0] - now_s)
        events = self._selector.select(most_s)
        for key, event in events:
            client = key.data
            if client is None:
                continue
            if event & _CONNECTED and key.events == _CONNECTED:
                self._selector.modify(key.fileobj, _READ, client)
                self._said(client)
            else:
                self._receive(client)
        return events

    def _said(self, client: Client) -> None:
        try:
            client.say(self._host)
        except OSError as error:
            self._broken(client, f"a client cannot connect: {error.strerror}")

    def _receive(self, client: Client) -> None:
        if client.socket is None:
            return
        try:
            length = client.socket.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._ended(client, RESET_BY_KERNEL if error.errno == errno.ECONNRESET else str(error.strerror))
            return
        if not length:
            self._ended(client, "a connection was ended before it was subscribed")
            return
        was_ready = client.is_ready
        try:
            self._came += client.receive(bytes(self._buffer[:length]), time.monotonic_ns(), self._latencies_ns)
        except Refused as refused:
            self._refused += 1
            self._again(client, refused.delay_s)
            return
        except Broken as error:
            self._broken(client, str(error))
            return
        if client.is_ready:
            if not was_ready:
                self._ready(client)
            self._reached(client)

    def _ended(self, client: Client, how: str) -> None:
        if not client.is_ready:
            self._broken(client, how)
            return
        self._left += 1
        self._hang_up(client)

    def _broken(self, client: Client, what: str) -> None:
        """In a storm it is counted, and the client tries again, as those of people do; otherwise nothing goes on."""
        if not self._comes_back:
            raise Broken(what)
        self._failed[what] += 1
        self._again(client, random.uniform(*_BACKOFF_S))

    def _again(self, client: Client, delay_s: float) -> None:
        self._hang_up(client)
        heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._order), client))


def main() -> None:
    lines = b""
    while b"\n" not in lines:  # not by sys.stdin, which would keep for itself what follows
        lines += os.read(0, 1 << 16)
    first, _, lines = lines.partition(b"\n")
    order = json.loads(first)
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    raise_limit()
    crowd = Crowd(order)
    while True:
        while b"\n" in lines:
            line, _, lines = lines.partition(b"\n")
            try:
                answer = crowd.obey(json.loads(line))
            except Broken as error:
                answer = {"failed": str(error)}
            print(json.dumps(answer), flush=True)
        crowd.pass_time()
        piece = os.read(0, 1 << 20)
        if not piece:
            return
        lines += piece


if __name__ == "__main__":
    main()
