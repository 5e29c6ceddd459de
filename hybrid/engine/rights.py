"""What a session may do by the token that was shown last: what that does not cover ends, what it names begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid.engine.claimed import follow_claim
from hybrid.engine.leg import StreamLeg
from hybrid.errors import HybridError
from hybrid.model import Principal

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine
    from hybrid.engine.runner import SessionRunner


def receive_rights(engine: Engine, runner: SessionRunner, principal: Principal) -> None:
    """The session has these rights and this life from now on: what they do not cover ends."""
    runner.receive_principal(principal)
    leg = runner.session.current
    if isinstance(leg, StreamLeg) and leg.feed is not None:
        leg.principal = principal
        _end_refused(engine, runner, leg, principal)
        if engine.operations.asks:
            engine.tasks.spawn(_ask_again(engine, runner, leg, principal))
    follow_channels(engine, runner, principal)


def follow_channels(engine: Engine, runner: SessionRunner, principal: Principal) -> None:
    """Tell the client of the channels that its token names, where that has changed."""
    if principal.channels is not runner.session.claimed:
        engine.tasks.spawn(follow_claim(engine, runner))


def _end_refused(engine: Engine, runner: SessionRunner, leg: StreamLeg, principal: Principal) -> None:
    assert leg.feed is not None
    for channel in leg.feed.channels():
        if engine.operations.may_read_on(principal, channel):
            continue
        try:
            engine.operations.check_subscribe(principal, channel)
        except HybridError as error:
            leg.feed.remove(channel)
            engine.presence.leave(runner.session.id, channel)
            runner.session.push_unsubscribed(channel, error.row.number)


async def _ask_again(engine: Engine, runner: SessionRunner, leg: StreamLeg, principal: Principal) -> None:
    """The backend knows nothing of this token yet; what it permitted to the former one goes on until it answers."""
    if leg.feed is None:
        return
    await engine.operations.ask_subscribe(principal, leg.feed.channels())
    if leg is runner.session.current and leg.principal is principal:
        _end_refused(engine, runner, leg, principal)
        runner.carry_out()
