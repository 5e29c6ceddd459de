"""Calls that the backend answers: those that no handler of this process has, and that the settings name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from hybrid.engine.calls import Call, Handler, NotRun
from hybrid.errors import ProtocolError
from hybrid.hooks.backend import Backend, Unanswered
from hybrid.hooks.messages import AskCall, CallAnswer, reason_of, who

AWAY: Final = "The application's backend cannot be asked now; try again."


class CallHook:
    """A call is posted once: again only where it was certainly not sent. What then broke is `outcome_unknown`."""

    def __init__(self, backend: Backend, names: Iterable[str]) -> None:
        """`names` may be called; one with a `*` at its end stands for all that start so."""
        patterns = tuple(names)
        self._backend = backend
        self._names: Final = frozenset(name for name in patterns if not name.endswith("*"))
        self._prefixes: Final = tuple(name[:-1] for name in patterns if name.endswith("*"))

    def handler_for(self, name: str) -> Handler | None:
        """Who answers this call, if the backend does."""
        return self._ask if name in self._names or name.startswith(self._prefixes) else None

    async def _ask(self, call: Call) -> Any:
        data = msgspec.Raw(msgspec.json.encode(call.data))
        question = AskCall(who(call.principal), call.name, data, call.key)
        try:
            answer = await self._backend.ask(question, CallAnswer, is_repeatable=False)
        except Unanswered as unanswered:
            if unanswered.limit:
                raise NotRun("limit_exceeded", unanswered.excess, retry_after_s=unanswered.retry_after_s) from None
            if not unanswered.is_sent:
                raise NotRun("keys_unavailable", AWAY, retry_after_s=unanswered.retry_after_s) from None
            if unanswered.is_refused:
                raise ProtocolError("call_failed") from None
            detail = "The application's backend did not say what the call gave."
            raise ProtocolError("outcome_unknown", detail) from None
        if answer.error:
            raise ProtocolError("call_failed", reason_of(answer.error))
        return answer.result
