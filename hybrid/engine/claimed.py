"""Channels that a token names: a session is told to be on them when it begins, and when its token changes.

What is new in the claim is a numbered `subscribe`, after the position that the channel has then, as the server API's
is; what has gone from it, and is subscribed to, ends with a numbered `unsubscribed`. What the client is on already, as
after every resume, is neither told nor touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybrid.engine.leg import StreamLeg
from hybrid.engine.polled import PolledLeg
from hybrid.errors import BrokerError, HybridError, LimitError
from hybrid.model import Principal
from hybrid.protocol.channels import parse_channel
from hybrid.protocol.cursor import to_wire
from hybrid.protocol.states import SessionState

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine
    from hybrid.engine.runner import SessionRunner


async def follow_claim(engine: Engine, runner: SessionRunner) -> None:
    """Tell the client what its newest token says that it was not told yet. Cancel-safe.

    A broker that is away leaves it untold: the next leg, or the next token, brings it. Never raises HybridError.
    """
    session = runner.session
    principal = _shown(runner)
    former, wanted = session.claimed, principal.channels
    if former == wanted:
        return
    session.claimed = wanted  # at once: whoever looks next has nothing to tell
    for channel in former:
        if channel not in wanted:
            runner.unsubscribe(channel)
    here = set(runner.channels())
    added = [channel for channel in wanted if channel not in former and channel not in here]
    if not added:
        return
    permitted, refused = _sorted(engine, principal, added, len(here))
    try:
        positions = await engine.broker.heads(permitted) if permitted else []
    except BrokerError as error:
        engine.counts.refused(error)
        if session.claimed is wanted:
            session.claimed = tuple(channel for channel in former if channel in wanted)
        return
    if session.state is SessionState.CLOSED or session.claimed is not wanted:
        return  # a newer token has come meanwhile, whose turn tells what is new in it
    session.expect_pushes(len(added))
    here = set(runner.channels())
    for channel, position in zip(permitted, positions, strict=True):
        if channel not in here:
            session.push_invitation(channel, to_wire(position))
    for channel, refusal in refused:
        engine.counts.refused(refusal)
        session.push_unsubscribed(channel, refusal.row.number)
    runner.carry_out()


def _shown(runner: SessionRunner) -> Principal:
    leg = runner.session.current
    shown = leg.principal if isinstance(leg, StreamLeg | PolledLeg) else None
    return shown or runner.session.principal


def _sorted(
    engine: Engine, principal: Principal, channels: Sequence[str], taken: int
) -> tuple[list[str], list[tuple[str, HybridError]]]:
    """Those that there is a right to and room for, and the others with what stands in their way."""
    permitted: list[str] = []
    refused: list[tuple[str, HybridError]] = []
    for channel in channels:
        try:
            parse_channel(channel)
            if not engine.operations.may_read_on(principal, channel):
                engine.operations.check_subscribe(principal, channel)
            if taken + len(permitted) >= engine.limits.channels_per_session_max:
                raise LimitError("channels_per_session_max")
        except HybridError as error:
            refused.append((channel, error))
        else:
            permitted.append(channel)
    return permitted, refused
