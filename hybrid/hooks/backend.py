"""Asking the backend: signed, a bounded number at once, tried again where nothing was sent, left alone while away.

Fail closed: whatever is not an answer raises `Unanswered`, which permits nothing, and is never taken for a refusal.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from typing import Final, Protocol, TypeVar

import msgspec

from hybrid.clock import Clock
from hybrid.counts import Sizes
from hybrid.hooks.breaker import Breaker
from hybrid.hooks.messages import Who
from hybrid.hooks.post import Failure, Poster, PostError
from hybrid.hooks.signature import Signer

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
ID_BYTES: Final = 16
IN_ALL: Final = "hook_asks_max"
PER_PRINCIPAL: Final = "hook_asks_per_principal_max"
ANSWERED: Final = "answered"
TOO_MANY: Final = "too_many"
LEFT_ALONE: Final = "left_alone"
OUTCOMES: Final = (ANSWERED, TOO_MANY, LEFT_ALONE, *(failure.name.lower() for failure in Failure))
"""What can become of a question: an answer; not asked, for a limit or while the breaker is open; or how it failed."""


class Unanswered(Exception):
    """There is no answer. `is_sent`: the backend may have seen the question, and acted on it.

    `limit`: it was not asked, for too many questions are under way, by this limit. `is_refused`: it has said something
    that is no answer. `retry_after_s` is when to come back.
    """

    def __init__(self, *, is_sent: bool, limit: str = "", is_refused: bool = False, retry_after_s: float = 1.0) -> None:
        super().__init__()
        self.is_sent = is_sent
        self.limit = limit
        self.is_refused = is_refused
        self.retry_after_s = retry_after_s

    @property
    def excess(self) -> str:
        """For the client, where there were too many: what of, and what to do."""
        whose = "of yours " if self.limit == PER_PRINCIPAL else ""
        return f"Too many questions {whose}to the application's backend are under way ({self.limit}); try again."


class Question(Protocol):
    """What is asked, as it is written: on whose behalf, at least."""

    @property
    def principal(self) -> Who:
        """Whose share of all questions it is counted against."""


class Backend:
    """See the module's text. One for decisions and one for calls, so that slow calls are in no decision's way."""

    def __init__(
        self, poster: Poster, signer: Signer, clock: Clock, *, asks_max: int, asks_per_principal_max: int
    ) -> None:
        self._poster = poster
        self._signer = signer
        self._clock = clock
        self._asks_max = asks_max
        self._asks_per_principal_max = asks_per_principal_max
        self._open = 0
        self._open_of: dict[tuple[str, str], int] = {}
        self.hits: Counter[str] = Counter()
        """Questions that were not asked, by the limit that stood in their way."""
        self.outcomes: Counter[str] = Counter()
        """Questions, by what became of them, out of `OUTCOMES`. Those that were given up are not among them."""
        self.answer_us = Sizes()
        """From a question until its answer, or until it was clear that there is none."""
        self.breaker = Breaker(clock)

    @property
    def under_way(self) -> int:
        """Questions without an answer yet."""
        return self._open

    async def ask(self, question: Question, answer_type: type[_Answer], *, is_repeatable: bool) -> _Answer:
        """The backend's answer, of the type given. Raises Unanswered.

        `is_repeatable`: to ask twice does no harm; then a connection that broke is tried again, once. One that could
        not be made is in any case. Cancelling it leaves open whether the backend was asked.
        """
        asker = (question.principal.issuer, question.principal.subject)
        here = self._open_of.get(asker, 0)
        if here >= self._asks_per_principal_max:
            raise self._too_many(PER_PRINCIPAL)
        if self._open >= self._asks_max:
            raise self._too_many(IN_ALL)
        if not self.breaker.admits():
            self.outcomes[LEFT_ALONE] += 1
            raise Unanswered(is_sent=False, retry_after_s=max(0.5, self.breaker.opens_in_s()))
        self._open += 1
        self._open_of[asker] = here + 1
        began_s = self._clock.monotonic_s()
        try:
            body = msgspec.json.encode(question)
            message_id = f"ask_{secrets.token_urlsafe(ID_BYTES)}"
            answer = msgspec.json.decode(await self._posted(message_id, body, is_repeatable), type=answer_type)
        except PostError as error:
            self._count(error.failure.name.lower(), began_s)
            self._failed(error.failure, str(error))
            is_sent = error.failure is not Failure.UNSENT
            raise Unanswered(is_sent=is_sent, is_refused=error.failure is Failure.REFUSED) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # The words of a ValidationError name our own members; those of the others quote nothing either.
            detail = str(error) if isinstance(error, msgspec.ValidationError) else "not JSON"
            self._count(Failure.REFUSED.name.lower(), began_s)
            self._failed(Failure.REFUSED, f"{Failure.REFUSED.value}: {detail}")
            raise Unanswered(is_sent=True, is_refused=True) from None
        finally:
            self._open -= 1
            self._open_of[asker] -= 1
            if not self._open_of[asker]:
                del self._open_of[asker]
        self._count(ANSWERED, began_s)
        self.breaker.succeeded()
        return answer

    def _count(self, outcome: str, began_s: float) -> None:
        self.outcomes[outcome] += 1
        self.answer_us.add_s(self._clock.monotonic_s() - began_s)

    def _too_many(self, limit: str) -> Unanswered:
        self.hits[limit] += 1
        self.outcomes[TOO_MANY] += 1
        return Unanswered(is_sent=False, limit=limit)

    async def close(self) -> None:
        """Release connections; safe to call twice."""
        await self._poster.close()

    async def _posted(self, message_id: str, body: bytes, is_repeatable: bool) -> bytes:
        try:
            return await self._attempt(message_id, body)
        except PostError as error:
            if error.failure is Failure.UNSENT or (is_repeatable and error.failure is Failure.BROKEN):
                return await self._attempt(message_id, body)  # mostly a kept connection that was just closed
            raise

    async def _attempt(self, message_id: str, body: bytes) -> bytes:
        return await self._poster.ask(body, self._signer.headers(message_id, self._clock.wall_s(), body))

    def _failed(self, failure: Failure, reason: str) -> None:
        if failure is Failure.REFUSED:
            # It is there and answers at once. Were it left alone for that, whoever finds a question that it fails at
            # could have it taken away from everybody.
            self.breaker.succeeded()
            _log.warning("the backend at %s gave no answer: %s", self._poster.name, reason)
            return
        was_open = self.breaker.opens_in_s() > 0
        self.breaker.failed()
        if not was_open and self.breaker.opens_in_s() > 0:
            _log.error("the backend at %s does not answer and is left alone for a while: %s", self._poster.name, reason)
        else:
            _log.warning("the backend at %s gave no answer: %s", self._poster.name, reason)
