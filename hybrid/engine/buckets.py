"""Token buckets by key, as GCRA (ITU-T I.371, annex A): one float for each key that owes something, nothing else.

    due of a key: when all that it has taken will be paid off, at one step (1 / per_s) each
    taken while   due - now <= (burst - 1) steps;  then due = max(due, now) + step

So never more than `burst + per_s * t` get through in any time t. Who is not in the table owes nothing.

The table is bounded. When it is full, those whose debt is paid are forgotten, which changes nothing for them. If nobody
can be forgotten, whoever has no place shares one more bucket of the same rate with all others without one. A debt is
never given up for a newcomer's sake, so whoever brings thousands of addresses gets rid of none.

Sans-I/O: the caller says what time it is.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

KEYS_MIN: Final = 16
"""A table is not searched for paid debts before it has so many keys; then whenever it has doubled."""
LOOK_S: Final = 0.25
"""Between two searches of a full table: 50,000 keys take 3 ms."""
_EXACT_S: Final = 1e-9  # sums of floats: who comes at the very moment it was told must not be a rounding too early


class Buckets:
    """The buckets of one rate. See the module's text."""

    __slots__ = ("_due_s", "_keys_max", "_look_at_s", "_look_beyond", "_shared_s", "_slack_s", "_step_s", "burst")

    def __init__(self, per_s: float, burst_s: float, keys_max: int) -> None:
        """`burst_s` seconds' worth may come at once, one at least; `keys_max` is how many keys have a bucket each."""
        self.burst: Final = max(1, int(per_s * burst_s))
        self._step_s: Final = 1 / per_s
        self._slack_s: Final = (self.burst - 1) * self._step_s
        self._keys_max: Final = keys_max
        self._due_s: dict[Hashable, float] = {}
        self._look_beyond = min(KEYS_MIN, keys_max)
        self._look_at_s = float("-inf")
        self._shared_s = float("-inf")  # when the bucket of all those without a place is paid off

    def __len__(self) -> int:
        """Keys in the table, paid ones too."""
        return len(self._due_s)

    def take(self, key: Hashable, now_s: float) -> float:
        """Take one: 0.0 if there was one, otherwise nothing is taken and the seconds until there will be one."""
        due_s = self._due_s.get(key)
        if due_s is None:
            return self._take_first(key, now_s)
        if due_s <= now_s:
            self._due_s[key] = now_s + self._step_s
            return 0.0
        early_s = due_s - now_s - self._slack_s
        if early_s > _EXACT_S:
            return early_s
        self._due_s[key] = due_s + self._step_s
        return 0.0

    def wait_s(self, key: Hashable, now_s: float) -> float:
        """What `take` would return; nothing is taken."""
        early_s = self._due_s.get(key, self._shared_s) - now_s - self._slack_s
        return early_s if early_s > _EXACT_S else 0.0

    def forget(self, key: Hashable) -> None:
        """The key will not come again."""
        self._due_s.pop(key, None)

    def _take_first(self, key: Hashable, now_s: float) -> float:
        if len(self._due_s) >= self._look_beyond:
            self._forget_paid(now_s)
        # Whoever gets a place at last brings the shared debt along, which is no less than its own part of it.
        due_s = max(self._shared_s, now_s)
        early_s = due_s - now_s - self._slack_s
        if early_s > _EXACT_S:
            return early_s
        if len(self._due_s) < self._keys_max:
            self._due_s[key] = due_s + self._step_s
        else:
            self._shared_s = due_s + self._step_s
        return 0.0

    def _forget_paid(self, now_s: float) -> None:
        """When the table has doubled since the last search, or is full and was not searched just now."""
        if now_s < self._look_at_s:
            return
        self._due_s = {key: due_s for key, due_s in self._due_s.items() if due_s > now_s}
        self._look_beyond = min(self._keys_max, max(KEYS_MIN, 2 * len(self._due_s)))
        self._look_at_s = now_s + LOOK_S if len(self._due_s) >= self._keys_max // 2 else now_s
