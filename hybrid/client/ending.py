"""How a leg or a request ended, whatever carried it: one value that says whether and when to come back.

Numbers come from the one table of errors. What carries no number was not said by a hybrid server but by the network in
between (a proxy's 502, a reset): it says nothing about the server, so another transport may do better.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from hybrid.errors import BY_NUMBER, AuthError, BrokerError, ChannelError, HybridError, LimitError, ProtocolError
from hybrid.protocol.pushes import WireError

CREDENTIAL_NUMBERS: Final = frozenset({3401, 4401})
"""Cured by a fresh token, once."""
_PASSING_NUMBERS: Final = frozenset({3503, 3504, 3505})
_LIMIT_EXCEEDED: Final = 3429
_SAME_AGAIN_FAILS: Final = frozenset({3400, 3403, 3405, 3413})
"""Answers to a command, which end nothing; as the answer to an attach they would only come again."""
_WEBSOCKET_STAY_AWAY: Final = frozenset({1002, 1003, 1007, 1008, 1009})
"""RFC 6455, section 7.4.1: our own frames broke its rules."""
_RETRY_AFTER_MAX_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a leg is over. `number` 0: the network. `delay_s` is what the server asked for, None when it did not.

    `status`: of HTTP, or a close code, where somebody on the way has said so much; 0 for a cut.
    """

    number: int = 0
    detail: str = ""
    comes_back: bool = True
    delay_s: float | None = None
    limit: str = ""
    status: int = 0

    @property
    def is_network(self) -> bool:
        """True when no hybrid server has said anything."""
        return self.number == 0

    @property
    def is_about_credentials(self) -> bool:
        """True when a fresh token may help."""
        return self.number in CREDENTIAL_NUMBERS

    def as_error(self) -> HybridError:
        """The exception for it."""
        return error_of(self.number, self.detail, self.delay_s, self.limit)


def error_of(number: int, detail: str = "", retry_after_s: float | None = None, limit: str = "") -> HybridError:
    """The exception for a number of the table, of the class that fits. `limit` names the limit that was hit."""
    row = BY_NUMBER.get(number)
    if row is None:
        return HybridError("internal", detail or f"The server ended with {number}.", retry_after_s=retry_after_s)
    if limit or row.name in ("limit_exceeded", "rate_limited", "too_large", "frame_too_large"):
        return LimitError(limit or row.name, detail or row.meaning, name=row.name, retry_after_s=retry_after_s)
    if row.http_status == 401 or row.name in ("forbidden_or_revoked", "origin_refused", "principal_changed"):
        return AuthError(row.name, detail, retry_after_s=retry_after_s)
    if row.name in ("broker_unavailable", "key_conflict"):
        return BrokerError(row.name, detail, retry_after_s=retry_after_s)
    if row.name in ("bad_request", "method_unknown", "protocol_error", "out_of_order"):
        return ProtocolError(row.name, detail, retry_after_s=retry_after_s)
    return ChannelError(row.name, detail, retry_after_s=retry_after_s)


def error_of_wire(error: WireError) -> HybridError:
    """The exception for the error of a reply."""
    return error_of(error.number, error.detail, error.retry_after_s, error.limit)


def is_passing(number: int, retry_after_s: float | None = None) -> bool:
    """True for an answer that says nothing about the command: the same again will be answered otherwise in a while."""
    return number in _PASSING_NUMBERS or (number == _LIMIT_EXCEEDED and bool(retry_after_s))


def network(detail: object, status: int = 0) -> Ending:
    """A failure below the protocol."""
    text = str(detail).strip().splitlines()
    return Ending(0, text[0][:200] if text else type(detail).__name__, status=status)


def of_number(number: int, detail: str = "", delay_s: float | None = None, comes_back: bool | None = None) -> Ending:
    """The end that a number of the table tells, or a close code."""
    row = BY_NUMBER.get(number)
    if comes_back is None:
        comes_back = row.comes_back if row is not None else not 4500 <= number <= 4999
    if number in _SAME_AGAIN_FAILS:
        comes_back = False
    return Ending(number, detail or (row.meaning if row is not None else ""), comes_back, delay_s)


def of_close(code: int, reason: str) -> Ending:
    """The end that a WebSocket close frame tells."""
    if code == 1012 or code >= 3000:
        row = BY_NUMBER.get(code)
        return of_number(code, "" if row is not None and reason == row.name else reason)
    if code in _WEBSOCKET_STAY_AWAY:
        return Ending(code, reason or f"The WebSocket was closed with {code}.", comes_back=False)
    return network(f"closed with {code} {reason}".strip(), 0 if code == 1006 else code)


def of_http(status: int, headers: Mapping[str, str], body: bytes) -> Ending:
    """The end that an HTTP answer other than the one hoped for tells (RFC 9457 where hybrid itself has answered)."""
    number, detail, limit, delay_s = 0, "", "", _retry_after_s(headers.get("retry-after"))
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        problem = None
    if isinstance(problem, dict) and isinstance(problem.get("number"), int) and problem["number"] in BY_NUMBER:
        number = problem["number"]
        detail = problem["detail"] if isinstance(problem.get("detail"), str) else ""
        limit = problem["limit"] if isinstance(problem.get("limit"), str) else ""
        exact_s = problem.get("retry_after_s")
        if isinstance(exact_s, int | float) and 0 <= exact_s <= _RETRY_AFTER_MAX_S:
            delay_s = float(exact_s)
    if number:
        return replace(of_number(number, detail, delay_s), limit=limit)
    return Ending(0, f"HTTP {status}", delay_s=delay_s, status=status)


def _retry_after_s(value: str | None) -> float | None:
    """RFC 9110, section 10.2.3; only the form in seconds, the dates of which depend on two clocks are ignored."""
    if value is None or not (value.isascii() and value.strip().isdigit()):  # superscripts are digits, too
        return None
    return min(float(value.strip()), _RETRY_AFTER_MAX_S)
