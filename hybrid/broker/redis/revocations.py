"""What was revoked, for all nodes: implements `auth.revocation.RevocationStore`.

Each entry is sealed with the nodes' secret, so that who can write to Redis, but does not know it, cannot end anybody's
sessions. He could take entries away; nodes that know them bring them back.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from hybrid.auth.revocation import Kind, Revocation, RevocationPage
from hybrid.broker.redis import scripts
from hybrid.broker.redis.broker import RedisBroker
from hybrid.errors import LimitError
from hybrid.limits import Limits

_log = logging.getLogger(__name__)
_PURPOSE: Final = "control"
_SEAL_BYTES: Final = 16
_AT_ONCE: Final = 256  # brought back by one script, which keeps the server busy for about a millisecond
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[Kind, str, str]).decode


class RedisRevocationStore:
    """See the module's text. `key` seals; all nodes have the same. It shares the broker's servers and topics."""

    is_shared = True

    def __init__(self, broker: RedisBroker, key: bytes, limits: Limits, skew_ms: Callable[[], int] = lambda: 0) -> None:
        self._broker = broker
        self._servers = broker.servers
        self._keys = (broker.keys.revoked, broker.keys.revoked_times)
        self._key = key
        self._limits = limits
        self._skew_ms = skew_ms
        self._publish: Final = "SPUBLISH" if broker.servers.is_cluster else "PUBLISH"

    async def append(self, kind: Kind, issuer: str, value: str) -> Revocation:
        """See `RevocationStore.append`."""
        [at_ms] = await self._write([self._member(kind, issuer, value), b""])
        if not at_ms:
            raise LimitError("revocations_max")
        return Revocation(kind, issuer, value, int(at_ms) / 1000)

    async def restore(self, revocations: Sequence[Revocation]) -> None:
        """See `RevocationStore.restore`."""
        for first in range(0, len(revocations), _AT_ONCE):
            arguments = []
            for revocation in revocations[first : first + _AT_ONCE]:
                arguments += [self._member(*revocation.key), b"%d" % round(revocation.at_s * 1000)]
            if b"" in await self._write(arguments):
                raise LimitError("revocations_max")

    async def read(self, cursor: bytes, limit: int) -> RevocationPage:
        """See `RevocationStore.read`."""
        self._broker.check()
        place, _, member = cursor.partition(b" ")
        is_continued, has_more, found = await self._servers.run_script(
            scripts.REVOKED, self._keys, member, place, limit, purpose=_PURPOSE
        )
        revocations = []
        for member, _, at_ms in zip(found[::3], found[1::3], found[2::3], strict=True):
            if (key := self._opened(member)) is not None:
                revocations.append(Revocation(*key, int(at_ms) / 1000))
        last = b"%b %b" % (found[-2], found[-3]) if found else cursor if is_continued else b""
        return RevocationPage(revocations, last, bool(is_continued), bool(has_more))

    async def listen(self, look: Callable[[], None], doubt: Callable[[], None]) -> None:
        """See `RevocationStore.listen`."""
        self._broker.check()
        await self._broker.listen(self._keys[0], lambda message: look(), doubt)

    async def _write(self, arguments: list[bytes]) -> list[bytes]:
        self._broker.check()
        times: list[bytes] = await self._servers.run_script(
            scripts.REVOKE,
            self._keys,
            self._keys[0],
            self._publish,
            round(self._limits.revocation_kept_s * 1000),
            self._limits.revocations_max,
            self._skew_ms(),
            *arguments,
            purpose=_PURPOSE,
        )
        return times

    def _member(self, *key: str) -> bytes:
        body = _encode(key)
        return self._seal(body) + body

    def _opened(self, member: bytes) -> tuple[Kind, str, str] | None:
        seal, body = member[:_SEAL_BYTES], member[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(body)):
            _log.error("a revocation in Redis is not sealed with this node's secret and is ignored")
            return None
        try:
            return _decode(body)
        except msgspec.MsgspecError:
            return None  # of a kind that a later version knows

    def _seal(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_SEAL_BYTES]
