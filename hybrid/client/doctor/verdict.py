"""What hybrid will use, and why, from what was found. Pure.

The page says it in the same words, `static/doctor/verdict.js`; `tests/vectors/verdicts.json` keeps the two alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hybrid.client.doctor.finding import TITLES, TRANSPORTS, Finding


@dataclass(frozen=True, slots=True)
class Verdict:
    """`will_use`: a transport, or None where none gets through. `sentence`: that, and why."""

    will_use: str | None
    sentence: str


def conclude(findings: Iterable[Finding]) -> Verdict:
    """The best transport that works without a flaw, else the best that works at all."""
    found = {finding.name: finding for finding in findings}
    able = [name for name in TRANSPORTS if name in found and found[name].works]
    if not able:
        first = next((finding for finding in found.values() if not finding.works), None)
        if first is None:
            return Verdict(None, "No transport has been tried yet.")
        why = f": {first.facts[0]}" if first.name not in TRANSPORTS else ""
        return Verdict(None, f"hybrid cannot get through here{why}.")
    flaws = {name: _flaw(found, name) for name in able}
    chosen = next((name for name in able if not flaws[name]), able[0])
    if "tls" in found and "untrusted" in found["tls"].flaws:
        why = found["tls"].facts[0]
        return Verdict(None, f"hybrid will not go through here: {why}; but for that it would use {TITLES[chosen]}.")
    better = [name for name in TRANSPORTS[: TRANSPORTS.index(chosen)] if name in found]
    reasons = [
        f"{TITLES[name]} " + (f"works badly, {flaws[name]}" if name in able else f"fails, {found[name].facts[0]}")
        for name in better
    ]
    if flaws[chosen]:
        reasons.append(f"{TITLES[chosen]} works badly as well, {flaws[chosen]}" if better else flaws[chosen])
    if reasons:
        return Verdict(chosen, f"hybrid will use {TITLES[chosen]} here: {'; '.join(reasons)}.")
    spare = [TITLES[name] for name in able if name != chosen and not flaws[name]]
    more = f"; {' and '.join(spare)} would work too" if spare else ""
    return Verdict(chosen, f"hybrid will use {TITLES[chosen]} here, the best of the three{more}.")


def _flaw(found: dict[str, Finding], name: str) -> str:
    """In words, "" where there is none: the sentence that tells it."""
    own, idle = found[name], found.get(f"{name}-idle")
    if own.flaws:
        return own.facts[1]  # behind how quickly it was open
    return idle.facts[0] if idle is not None and idle.flaws else ""
