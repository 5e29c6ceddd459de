"""What a line in the log says beside its message: who it is about; and how lines are written.

Whoever works for a client says so once (`speaking.set(source)`, in its own task); its fields are asked for when there
is a line to write, so that a client about whom nothing is written costs one assignment. Lines that know more say it
with `extra=fields(...)`.

No secret stands in any message, and tests see to it. `redacted` is for the day when one does, from a library.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeAlias

from hybrid.model import Principal

Naming: TypeAlias = Callable[[Principal], str]
"""How a principal is called in the log."""


class Source(Protocol):
    """Whom something is done for."""

    def log_fields(self) -> Mapping[str, object]:
        """Names and values; a Principal is written as the log calls it. Must not raise."""


speaking: ContextVar[Source | None] = ContextVar("hybrid.speaking", default=None)
"""For whom the present task works."""

_EXTRA: Final = "hybrid_fields"
_SECRETS: Final = (
    (re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*"), "[token]"),
    (re.compile(r"(?i)\b(bearer|dpop|basic)(\s+|%20)[A-Za-z0-9._~+/=-]{8,}"), r"\1 [token]"),
    (
        re.compile(r"(?i)\b((?:access_|refresh_|id_)?token|ticket|client_secret|password)=[^&\s\"']+"),
        r"\1=[secret]",
    ),
    (re.compile(r"(?i)\b((?:set-)?cookie: *)[^\r\n]+"), r"\1[secret]"),
    (re.compile(r"://[^/@\s]+@"), "://[secret]@"),
)


def fields(**values: object) -> dict[str, object]:
    """The `extra` of a log line that says this."""
    return {_EXTRA: values}


def redacted(text: str) -> str:
    """The text without what looks like a token, a ticket, a cookie or the password of a URL."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def hashed(key: bytes) -> Naming:
    """Names that say nothing of who it is and are the same for the same one: 16 hexadecimal digits of HMAC-SHA256.

    Nodes with the same key agree on them. Of issuer and subject only, so that a person has one name on all devices.
    """

    def name(principal: Principal) -> str:
        who = f"{principal.issuer}\n{principal.subject}".encode("utf-8", "surrogatepass")
        return hmac.new(key, who, hashlib.sha256).hexdigest()[:16]

    return name


def plain(principal: Principal) -> str:
    """The subject as its token says it."""
    return principal.subject


class ReadableFormatter(logging.Formatter):
    """Lines for people."""

    def __init__(self, worker: int = 0) -> None:
        who = f"worker {worker} (%(process)d) " if worker else ""
        super().__init__(f"%(asctime)s %(levelname)-7s {who}%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        return redacted(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line (RFC 8259), in UTF-8, whatever is in it.

    `time` (RFC 3339, UTC, milliseconds), `level`, `logger`, `message` are always there; `pid`, `worker`, `node` say
    which process it is; `error` (`type`, `message`, `stack`) comes with a traceback; beside them are the fields of the
    line, then those of whom it is about.
    """

    def __init__(self, worker: int = 0) -> None:
        super().__init__()
        self._worker = worker
        self.node = ""
        """The id of this process among the nodes, once it has one."""
        self.name_of: Naming = hashed(secrets.token_bytes(32))
        """How principals are called."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        seconds, milliseconds = divmod(int(record.created * 1000), 1000)
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
            "pid": record.process,
        }
        if self._worker:
            line["worker"] = self._worker
        if self.node:
            line["node"] = self.node
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, _ = record.exc_info
            line["error"] = {
                "type": f"{kind.__module__}.{kind.__qualname__}",
                "message": redacted(str(error)),
                "stack": redacted(self.formatException(record.exc_info)),
            }
        for name, value in self._fields(record).items():
            if name not in line and value not in ("", None):
                line[name] = self._value(value)
        return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace").decode("utf-8")

    def _fields(self, record: logging.LogRecord) -> Mapping[str, object]:
        source = speaking.get()
        own: Mapping[str, object] = getattr(record, _EXTRA, {})
        return own if source is None else {**source.log_fields(), **own}

    def _value(self, value: object) -> Any:
        if isinstance(value, Principal):
            return self.name_of(value) if not value.is_anonymous else "anonymous"
        return value if isinstance(value, bool | int | float) else redacted(str(value))
