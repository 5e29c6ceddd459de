"""What an embedding application decides in Python, and what happens when it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from hybrid.auth.grants import GRANTS_MAX, Action
from hybrid.auth.hooks import HOOK_TIMEOUT_S, finish_with
from hybrid.auth.policy import Policy
from hybrid.errors import AuthError, ChannelError, HybridError
from hybrid.model import ANONYMOUS, Grant, Principal
from hybrid.settings import Namespace
from tests.support.virtual_time import in_virtual_time

ALICE = Principal(issuer="i", subject="alice", grants=(Grant("subscribe", "old"),))


async def test_a_hook_sees_the_claims_and_says_all_that_may_be_done() -> None:
    async def grants(principal: Principal, claims: Mapping[str, Any]) -> Iterable[Grant]:
        return [Grant("subscribe", f"{claims['org']}:{principal.subject}")]

    assert (await finish_with(grants)(ALICE, {"org": "acme"})).grants == (Grant("subscribe", "acme:alice"),)


@pytest.mark.parametrize("answer", [[Grant("subscribe", f"c{n}") for n in range(GRANTS_MAX + 1)], ["subscribe"], None])
async def test_an_answer_that_makes_no_sense_lets_nobody_in(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def grants(principal: Principal, claims: Mapping[str, Any]) -> Iterable[Grant]:
        return answer  # type: ignore[no-any-return]

    caplog.set_level(logging.CRITICAL)
    with pytest.raises(HybridError) as caught:
        await finish_with(grants)(ALICE, {})
    assert caught.value.row.name == "internal"


@in_virtual_time
async def test_a_hook_that_hangs_or_refuses() -> None:
    logging.getLogger("hybrid.auth.hooks").disabled = True

    async def hangs(principal: Principal, claims: Mapping[str, Any]) -> Iterable[Grant]:
        await asyncio.sleep(HOOK_TIMEOUT_S * 10)
        return []

    async def refuses(principal: Principal, claims: Mapping[str, Any]) -> Iterable[Grant]:
        raise AuthError("token_refused")

    try:
        for hook, name in ((hangs, "keys_unavailable"), (refuses, "token_refused")):
            with pytest.raises(AuthError) as caught:
                await finish_with(hook)(ALICE, {})
            assert caught.value.row.name == name
    finally:
        logging.getLogger("hybrid.auth.hooks").disabled = False


def policy(verdict: bool | Exception | None) -> Policy:
    def hook(principal: Principal, action: Action, channel: str) -> bool | None:
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    return Policy({"open": Namespace("open", subscribe="anyone"), "own": Namespace("own")}.get, hook)


@pytest.mark.parametrize(
    ("verdict", "principal", "channel", "error"),
    [
        (True, ALICE, "own", None),
        (True, ANONYMOUS, "own", None),
        (True, ALICE, "unknown", ChannelError),
        (False, ALICE, "open", ChannelError),
        (False, ANONYMOUS, "open", AuthError),
        (None, ALICE, "open", None),
        (None, ALICE, "own", ChannelError),
        (RuntimeError("broken"), ALICE, "open", ChannelError),
    ],
)
def test_the_hook_for_authorisation(
    verdict: bool | Exception | None,
    principal: Principal,
    channel: str,
    error: type[Exception] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    if error is None:
        policy(verdict).authorise(principal, "subscribe", channel)
    else:
        with pytest.raises(error):
            policy(verdict).authorise(principal, "subscribe", channel)
    assert policy(verdict).is_authorised(principal, "subscribe", channel) is (error is None)
