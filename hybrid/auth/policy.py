"""Who may do what on which channel: the rule of the channel's namespace, then the grants of the principal.

Denial is the default: no namespace, an unknown rule and a missing grant all refuse. A channel that may not be used and
one that does not exist are refused with the same words, so that names cannot be tried out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from hybrid.auth.grants import Action, is_granted
from hybrid.auth.hooks import Asked, AuthoriseHook
from hybrid.auth.revocation import Revocations
from hybrid.errors import AuthError, ChannelError
from hybrid.model import Principal

_log = logging.getLogger(__name__)

RULES: Final = ("scope", "token", "anyone", "hook")
"""`scope`: the token must grant it. `token`: any accepted token will do. `anyone`: anonymous access is allowed.
`hook`: the application's backend is asked, about whoever shows a token."""


class NamespaceRules(Protocol):
    """The two settings of a namespace that concern us; each is one of `RULES`."""

    @property
    def subscribe(self) -> str:
        """Who may read."""
        ...

    @property
    def publish(self) -> str:
        """Who may publish."""
        ...


class Policy:
    """Decides with the rights of now; nothing is remembered between two questions."""

    def __init__(
        self,
        namespace_of: Callable[[str], NamespaceRules | None],
        hook: AuthoriseHook | None = None,
        revocations: Revocations | None = None,
        asked: Asked | None = None,
    ) -> None:
        """`namespace_of` gives the rules that hold for a channel's name, None where no namespace is configured.

        `hook` is asked first; what it says counts, in a configured namespace. Who stands in `revocations` may do
        nothing, whatever came in before the revocation did. `asked` decides where the rule is "hook"; without one
        that denies.
        """
        self._namespace_of = namespace_of
        self._hook = hook
        self._revocations = revocations
        self._asked = asked

    @property
    def asks(self) -> bool:
        """Whether there is a backend to ask."""
        return self._asked is not None

    async def ask(self, principal: Principal, action: Action, channels: Sequence[str]) -> None:
        """Have the backend asked about those of these channels on which it decides; then `authorise` knows.

        For everything that can wait, ahead of `authorise`, which cannot. Never raises. Cancel-safe.
        """
        if self._asked is None or principal.is_anonymous:
            return
        if self._revocations is not None and self._revocations.is_revoked(principal):
            return
        unknown = [channel for channel in channels if self._is_asked_about(action, channel)]
        if unknown:
            await self._asked.ask(principal, action, unknown)

    def is_unanswered(self, principal: Principal, action: Action, channel: str) -> bool:
        """Whether the backend decides on this, and has not: what it permitted before goes on until it has."""
        if self._asked is None or principal.is_anonymous or not self._is_asked_about(action, channel):
            return False
        if self._revocations is not None and self._revocations.is_revoked(principal):
            return False
        verdict = self._asked.known(principal, action, channel)
        return verdict is None or verdict.retry_after_s is not None

    def _is_asked_about(self, action: Action, channel: str) -> bool:
        rules = self._namespace_of(channel)
        return rules is not None and getattr(rules, action) == "hook"

    def authorise(self, principal: Principal, action: Action, channel: str) -> None:
        """Return if the principal may do this. `channel` is a checked name.

        Raises AuthError `unauthorized` (3401) for somebody anonymous, who may come back with a token;
        `keys_unavailable` (3504) where the backend decides and has not answered;
        `forbidden_or_revoked` (4503) for somebody whose token was revoked since it came in; and ChannelError
        `forbidden` (3403) for everybody else.
        """
        if self._revocations is not None:
            self._revocations.check(principal)
        rules = self._namespace_of(channel)
        rule = getattr(rules, action) if rules is not None else ""
        if self._hook is not None and rules is not None:
            verdict = self._ask(self._hook, principal, action, channel)
            if verdict is True:
                return
            if verdict is False:
                raise AuthError("unauthorized") if principal.is_anonymous else ChannelError("forbidden")
        if rule == "anyone":
            return
        if principal.is_anonymous:
            raise AuthError("unauthorized")
        if rule == "hook" and self._asked is not None:
            self._judge(self._asked, principal, action, channel)
            return
        if rule == "token" or (rule == "scope" and is_granted(principal, action, channel)):
            return
        raise ChannelError("forbidden")

    def _judge(self, asked: Asked, principal: Principal, action: Action, channel: str) -> None:
        verdict = asked.known(principal, action, channel)
        if verdict is None or verdict.retry_after_s is not None:
            detail, retry_after_s = ("", 1.0) if verdict is None else (verdict.detail, verdict.retry_after_s)
            raise AuthError("keys_unavailable", detail, retry_after_s=retry_after_s)
        if not verdict.is_allowed:
            raise ChannelError("forbidden", verdict.detail)

    def _ask(self, hook: AuthoriseHook, principal: Principal, action: Action, channel: str) -> bool | None:
        try:
            return hook(principal, action, channel)
        except Exception:
            _log.exception("the hook for authorisation failed, which denies")
            return False

    def is_authorised(self, principal: Principal, action: Action, channel: str) -> bool:
        """`authorise` as a question."""
        try:
            self.authorise(principal, action, channel)
        except (AuthError, ChannelError):
            return False
        return True
