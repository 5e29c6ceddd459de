"""What there is to tell about webhooks: questions to the backend, and events for it."""

from __future__ import annotations

from collections.abc import Iterator

from hybrid.hooks.backend import OUTCOMES
from hybrid.hooks.breaker import State
from hybrid.web.hooks import Hooks
from hybrid.web.metrics.families import MICROSECONDS, Family, by_label, counter, distribution, gauge


def hook_families(hooks: Hooks) -> Iterator[Family]:
    """Nothing where no backend is asked and nobody is told."""
    if hooks.backends:
        yield from _questions(hooks)
    if hooks.teller is not None:
        yield counter("hybrid_hook_events", "Events that the receiver has taken.", hooks.teller.told)
        yield counter("hybrid_hook_events_dropped", "Events that nobody will be told.", hooks.teller.dropped)
        yield gauge("hybrid_hook_events_waiting", "Events that the receiver has not taken yet.", hooks.teller.waiting)


def _questions(hooks: Hooks) -> Iterator[Family]:
    backends = hooks.backends.items()
    yield by_label(
        "counter",
        "hybrid_hook_questions",
        "Questions for the backend, by what became of them.",
        ("about", "outcome"),
        {(about, outcome): count for about, backend in backends for outcome, count in backend.outcomes.items()},
        [(about, outcome) for about, _ in backends for outcome in OUTCOMES],
    )
    yield Family(
        "hybrid_hook_answer_seconds",
        "histogram",
        "From a question to the backend until its answer, or until it was clear that there is none.",
        ("about",),
        [((about,), distribution(backend.answer_us, MICROSECONDS)) for about, backend in backends],
    )
    yield by_label(
        "gauge",
        "hybrid_hook_questions_waiting",
        "Questions that the backend has not answered yet.",
        ("about",),
        {(about,): backend.under_way for about, backend in backends},
    )
    yield by_label(
        "gauge",
        "hybrid_hook_left_alone",
        "1 while the backend is not asked because it did not answer.",
        ("about",),
        {(about,): int(backend.breaker.state is not State.CLOSED) for about, backend in backends},
    )
