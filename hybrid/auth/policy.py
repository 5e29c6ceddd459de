"""Who may do what on which channel: the rule of the channel's namespace, then the grants of the principal.

Denial is the default: no namespace, an unknown rule and a missing grant all refuse. A channel that may not be used and
one that does not exist are refused with the same words, so that names cannot be tried out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from hybrid.auth.grants import Action, is_granted
from hybrid.auth.hooks import AuthoriseHook
from hybrid.auth.revocation import Revocations
from hybrid.errors import AuthError, ChannelError
from hybrid.model import Principal

_log = logging.getLogger(__name__)

RULES: Final = ("scope", "token", "anyone")
"""`scope`: the token must grant it. `token`: any accepted token will do. `anyone`: anonymous access is allowed."""


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
    ) -> None:
        """`namespace_of` gives the rules that hold for a channel's name, None where no namespace is configured.

        `hook` is asked first; what it says counts, in a configured namespace. Who stands in `revocations` may do
        nothing, whatever came in before the revocation did.
        """
        self._namespace_of = namespace_of
        self._hook = hook
        self._revocations = revocations

    def authorise(self, principal: Principal, action: Action, channel: str) -> None:
        """Return if the principal may do this. `channel` is a checked name.

        Raises AuthError `unauthorized` (3401) for somebody anonymous, who may come back with a token;
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
        if rule == "token" or (rule == "scope" and is_granted(principal, action, channel)):
            return
        raise ChannelError("forbidden")

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
