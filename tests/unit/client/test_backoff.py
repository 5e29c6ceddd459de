"""Full jitter: spread evenly below a bound that doubles, up to a ceiling."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybrid.client.backoff import Backoff


def test_the_bound_doubles_up_to_the_ceiling_and_starts_again() -> None:
    backoff = Backoff(0.5, 3.0, random=lambda: 1.0)
    assert [backoff.next_delay_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next_delay_s() == 0.5
    assert backoff.jitter_s(7.0) == 7.0
    assert backoff.failures == 1


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 5_000))
def test_a_delay_is_never_above_the_ceiling_nor_below_nothing(drawn: float, failures: int) -> None:
    backoff = Backoff(0.5, 20.0, random=lambda: drawn)
    backoff.failures = failures
    assert 0 <= backoff.next_delay_s() <= 20.0
