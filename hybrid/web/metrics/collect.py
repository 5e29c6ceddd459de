"""What there is to tell about one process, read from where it is counted. A scrape costs milliseconds, in slices.

Words that a client could have made up are not among the labels; see `words`.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator

from hybrid import __version__
from hybrid.broker.redis.broker import RedisBroker
from hybrid.counts import Sizes
from hybrid.engine.engine import Engine
from hybrid.engine.survey import NOTHING, Survey, survey
from hybrid.engine.transport_counts import TRANSPORTS
from hybrid.protocol.states import ChannelState, SessionState, SubscriptionState
from hybrid.web.hooks import Hooks
from hybrid.web.metrics import words
from hybrid.web.metrics.families import (
    MICROSECONDS,
    NUMBERS,
    Family,
    Scale,
    bounded,
    by_label,
    counter,
    distribution,
    gauge,
    one_label,
)
from hybrid.web.metrics.hooks import hook_families
from hybrid.web.metrics.process import LoopLag, ProcessFigures


class Collector:
    """One for each process. `redis` is the broker, where it is one whose connections can be counted."""

    def __init__(self, engine: Engine, redis: RedisBroker | None, hooks: Hooks) -> None:
        self._engine = engine
        self._hooks = hooks
        self._redis = redis
        self._figures = ProcessFigures()
        self.loop_lag = LoopLag()

    async def families(self) -> list[Family]:
        """Everything as it is now. Cancel-safe."""
        found = await survey(self._engine)
        families = [
            *_connections(self._engine, found),
            *_delivery(self._engine, found),
            *_refusals(self._engine),
            *hook_families(self._hooks),
            *_node(self._engine, self._redis is not None),
            *self._figures.families(),
            _sizes("event_loop_lag_seconds", "How late timers are, looked at four times a second.", self._lag()),
        ]
        if self._redis is not None:
            families += _redis(self._redis)
        return families

    def _lag(self) -> Sizes:
        return self.loop_lag.late_us


def _sizes(name: str, help: str, sizes: Sizes, scale: Scale = MICROSECONDS) -> Family:
    return Family(f"hybrid_{name}", "histogram", help, values=[((), distribution(sizes, scale))])


def _connections(engine: Engine, found: Survey) -> Iterator[Family]:
    counts, tried = engine.counts, engine.transport_counts
    labels = ("transport", "kind", "state")
    yield by_label(
        "gauge", "hybrid_connections", "Open streams (WebSocket and SSE).", labels, found.streams, words.CONNECTIONS
    )
    yield gauge("hybrid_connections_max", "Open streams and polls that this process takes (links_max).", _most(engine))
    yield gauge("hybrid_polls_waiting", "Long polls that wait for something to tell.", len(engine.open.waiting()))
    yield gauge("hybrid_connections_unauthenticated", "Connections that have shown no token yet.", engine.door.count)
    yield by_label("counter", "hybrid_connections_opened", "Streams opened.", labels[:2], counts.opened, words.STREAMS)
    yield by_label(
        "counter", "hybrid_connections_closed", "Streams ended, by why.", ("transport", "reason"), counts.closed
    )
    states = [state.name.lower() for state in SessionState if state is not SessionState.CLOSED]
    yield by_label(
        "gauge",
        "hybrid_sessions",
        "Sessions known here; those without a leg have the transport none.",
        ("state", "transport"),
        found.sessions,
        [(state, transport) for state in states for transport in TRANSPORTS if state != "detached"]
        + [("detached", NOTHING)],
    )
    yield gauge("hybrid_sessions_max", "Sessions that this process keeps (sessions_max).", engine.limits.sessions_max)
    yield by_label(
        "counter",
        "hybrid_attaches",
        "Attaches: fresh sessions, resumed ones, ones rebuilt from their positions, refused ones.",
        ("transport", "outcome"),
        counts.attaches,
        words.ATTACHES,
    )
    yield gauge("hybrid_attaches_deferred", "Clients that were given a moment to come and have not.", _deferred(engine))
    yield by_label(
        "counter",
        "hybrid_legs_confirmed",
        "Legs that began to carry a session.",
        ("transport",),
        one_label(tried.legs),
        [(transport,) for transport in TRANSPORTS],
    )
    yield by_label(
        "counter",
        "hybrid_transports_tried",
        "What clients said of better transports: which they use, which they do not, and why.",
        ("transport", "better", "reason"),
        tried.tried,
    )


def _most(engine: Engine) -> int:
    return engine.limits.links_max


def _deferred(engine: Engine) -> int:
    return len(engine.intake.arrivals)


def _delivery(engine: Engine, found: Survey) -> Iterator[Family]:
    tally, counts, shared = engine.hub.shared.tally, engine.counts, engine.hub.shared
    states = [(state.name.lower(),) for state in ChannelState]
    yield by_label("gauge", "hybrid_channels", "Channels known here.", ("state",), one_label(found.channels), states)
    states = [(state.name.lower(),) for state in SubscriptionState if state is not SubscriptionState.ENDED]
    yield by_label(
        "gauge", "hybrid_subscriptions", "Channels of streams.", ("state",), one_label(found.subscriptions), states
    )
    yield counter("hybrid_publications", "Publications that came to followed channels.", tally.publications)
    yield counter("hybrid_deliveries", "Publications written to links, each once for each link.", tally.deliveries)
    yield counter("hybrid_flushes", "Times that a channel's news were written to its links.", tally.flushes)
    yield counter("hybrid_flushed_bytes", "Bytes written to links in flushes, before TLS.", tally.bytes)
    yield _sizes(
        "flush_publications",
        "Publications in a flush, of at most 100 flushes a second.",
        tally.flush_publications,
        NUMBERS,
    )
    yield _sizes("flush_links", "Links that a flush was written to, of the same flushes.", tally.flush_links, NUMBERS)
    yield _sizes(
        "write_delay_seconds",
        "From a publication's arrival here until its flush was written to the last link, of the same flushes.",
        tally.write_us,
    )
    yield by_label(
        "counter",
        "hybrid_publishes",
        "Publications asked for here, by outcome.",
        ("outcome",),
        bounded(counts.published, (*words.PUBLISHED, *words.ERRORS)),
        [(outcome,) for outcome in words.PUBLISHED],
    )
    yield _sizes("publish_duration_seconds", "From a publish until the broker's answer.", counts.publish_us)
    yield by_label(
        "counter",
        "hybrid_recoveries",
        "Starts of readers: without a position, exactly after it, or with a reset.",
        ("outcome",),
        one_label(tally.recoveries),
        [(outcome,) for outcome in words.RECOVERIES],
    )
    yield by_label(
        "counter",
        "hybrid_resets",
        "Resets told to readers that had begun, by reason.",
        ("reason",),
        one_label(tally.resets),
        [(reason,) for reason in words.RESETS],
    )
    yield counter("hybrid_links_lagged", "How often a link was too slow to stay live.", tally.lagged)
    yield gauge("hybrid_lag_publications", "Publications not written yet to those who are not live.", found.behind)
    yield gauge("hybrid_lag_publications_max", "The same for the one who is furthest behind.", found.behind_max)
    yield gauge("hybrid_buffered_bytes", "Written to links and not taken by the system yet.", found.buffered_bytes)
    yield gauge("hybrid_buffered_bytes_max", "The same for the fullest link.", found.buffered_max_bytes)
    yield counter("hybrid_channel_gaps", "How often a channel may have missed something.", tally.gaps)
    yield gauge("hybrid_ring_bytes", "Recent publications kept in memory.", shared.rings.bytes)
    yield gauge("hybrid_reads_in_flight", "Reads of the broker's log under way.", len(shared.reads))


def _refusals(engine: Engine) -> Iterator[Family]:
    counts = engine.counts
    yield by_label(
        "counter",
        "hybrid_tokens",
        "Access tokens that were judged, by outcome.",
        ("outcome",),
        bounded(engine.token_outcomes, words.TOKENS),
        [(outcome,) for outcome in words.TOKENS],
    )
    yield by_label(
        "counter",
        "hybrid_refusals",
        "Errors told to clients, by name.",
        ("error",),
        bounded(counts.refusals, words.ERRORS),
        [(error,) for error in words.ERRORS],
    )
    yield by_label(
        "counter",
        "hybrid_limits_hit",
        "Bounds that clients ran into, by their name in [limits].",
        ("limit",),
        bounded(counts.limits, words.LIMITS),
        [(limit,) for limit in words.LIKELY_LIMITS],
    )
    yield gauge("hybrid_revocations", "Revocations kept in memory.", len(engine.revocations))


def _node(engine: Engine, is_redis: bool) -> Iterator[Family]:
    yield gauge("hybrid_nodes", "Nodes known, this one among them.", 1 + len(engine.nodes.others))
    yield gauge("hybrid_draining", "1 once this process sends its clients away.", int(engine.leaving.has_begun))
    yield Family(
        "hybrid_build",
        "info",
        "What runs.",
        ("version", "python", "implementation", "broker"),
        [
            (
                (
                    __version__,
                    platform.python_version(),
                    platform.python_implementation(),
                    "redis" if is_redis else "memory",
                ),
                1,
            )
        ],
    )


def _redis(broker: RedisBroker) -> Iterator[Family]:
    """By what a connection is for; the servers of a Cluster together."""
    up: Counter[tuple[str, ...]] = Counter()
    connects: Counter[tuple[str, ...]] = Counter()
    failures: Counter[tuple[str, ...]] = Counter()
    waiting: Counter[tuple[str, ...]] = Counter()
    oldest_s: dict[tuple[str, ...], float] = {}
    answers: dict[tuple[str, ...], Sizes] = {}
    for purpose, line in broker.servers.lines():
        key = (words.PURPOSES.get(purpose, "other"),)
        up[key] += int(line.is_connected)
        connects[key] += line.life
        failures[key] += line.failures
        waiting[key] += line.waiting
        oldest_s[key] = max(oldest_s.get(key, 0.0), line.oldest_s)
        sizes = answers.setdefault(key, Sizes())
        sizes.counts = [a + b for a, b in zip(sizes.counts, line.answer_us.counts, strict=True)]
        sizes.total += line.answer_us.total
    listening = (words.LISTENING,)
    up[listening] = int(broker.topics.is_connected)
    connects[listening] = broker.topics.connects
    failures[listening] = broker.topics.failures
    label = ("purpose",)
    yield by_label("gauge", "hybrid_broker_up", "Connections to Redis that can be used now.", label, up)
    yield by_label("counter", "hybrid_broker_connects", "Connections to Redis that were made.", label, connects)
    yield by_label(
        "counter", "hybrid_broker_failures", "Attempts to connect that failed, connections that broke.", label, failures
    )
    yield by_label("gauge", "hybrid_broker_waiting", "Commands not answered yet, or not sent.", label, waiting)
    yield by_label(
        "gauge", "hybrid_broker_oldest_seconds", "Age of the oldest command without an answer.", label, oldest_s
    )
    yield Family(
        "hybrid_broker_answer_seconds",
        "histogram",
        "From the writing of a command to Redis until its answer.",
        label,
        [(key, distribution(sizes, MICROSECONDS)) for key, sizes in sorted(answers.items())],
    )
    yield gauge("hybrid_broker_topics", "Topics listened to on Redis.", len(broker.topics))
