from __future__ import annotations

from typing import NamedTuple

import pytest

from hybrid.auth.grants import Action
from hybrid.auth.policy import Policy
from hybrid.errors import AuthError, ChannelError
from hybrid.model import ANONYMOUS, Grant, Principal
from hybrid.settings import Namespace


class Rules(NamedTuple):
    subscribe: str
    publish: str


RULES = {
    "closed": Rules("scope", "scope"),
    "members": Rules("token", "scope"),
    "open": Rules("anyone", "token"),
    "typo": Rules("everyone", ""),
}
ALICE = Principal(issuer="i", subject="alice", grants=(Grant("subscribe", "closed:a"), Grant("publish", "*")))
BOB = Principal(issuer="i", subject="bob")


def policy() -> Policy:
    return Policy(lambda channel: RULES.get(channel.partition(":")[0]))


@pytest.mark.parametrize(
    ("who", "action", "channel", "outcome"),
    [
        (ALICE, "subscribe", "closed:a", None),
        (ALICE, "subscribe", "closed:b", ChannelError),
        (ALICE, "publish", "closed:b", None),
        (BOB, "subscribe", "closed:a", ChannelError),
        (BOB, "publish", "closed:a", ChannelError),
        (BOB, "subscribe", "members:a", None),
        (BOB, "publish", "members:a", ChannelError),
        (BOB, "subscribe", "open:a", None),
        (BOB, "publish", "open:a", None),
        (ANONYMOUS, "subscribe", "open:a", None),
        (ANONYMOUS, "publish", "open:a", AuthError),
        (ANONYMOUS, "subscribe", "members:a", AuthError),
        (ANONYMOUS, "subscribe", "closed:a", AuthError),
        (ALICE, "subscribe", "typo:a", ChannelError),
        (ALICE, "publish", "typo:a", ChannelError),
        (ALICE, "publish", "none:a", ChannelError),
        (ANONYMOUS, "publish", "none:a", AuthError),
    ],
)
def test_the_rule_of_the_namespace_decides_and_denial_is_the_default(
    who: Principal, action: Action, channel: str, outcome: type[Exception] | None
) -> None:
    assert policy().is_authorised(who, action, channel) is (outcome is None)
    if outcome is None:
        policy().authorise(who, action, channel)
    else:
        with pytest.raises(outcome):
            policy().authorise(who, action, channel)


@pytest.mark.parametrize("who", [ALICE, BOB, ANONYMOUS])
def test_a_channel_that_may_not_be_read_and_one_that_does_not_exist_are_refused_alike(who: Principal) -> None:
    answers = []
    for channel in ("closed:secret", "none:secret"):
        with pytest.raises((AuthError, ChannelError)) as caught:
            policy().authorise(who, "subscribe", channel)
        answers.append((type(caught.value), caught.value.row, str(caught.value), caught.value.retry_after_s))
    assert answers[0] == answers[1]


def test_anonymous_grants_count_for_nothing() -> None:
    nobody = Principal(issuer="", subject="", grants=(Grant("subscribe", "*"),))
    with pytest.raises(AuthError) as caught:
        policy().authorise(nobody, "subscribe", "closed:a")
    assert caught.value.row.number == 3401


def test_a_namespace_of_the_settings_fits() -> None:
    rules = Policy(lambda channel: Namespace("news", subscribe="anyone"))
    rules.authorise(ANONYMOUS, "subscribe", "news:a")
    with pytest.raises(ChannelError) as caught:
        rules.authorise(BOB, "publish", "news:a")
    assert caught.value.row.number == 3403
