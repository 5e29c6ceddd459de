"""What checking tokens costs: `python -m tests.bench.tokens [--quick]`. One process, nothing on the network.

CPU seconds are those of this process. A miss is a token that was never seen, a hit one that was; between two rows of
one run the machine is the same.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from joserfc.jwk import ECKey, OKPKey, RSAKey

from hybrid.auth.dpop import ProofDesk
from hybrid.auth.introspection import IntrospectionConfig, Introspector
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.keys import StaticKeys
from hybrid.broker.memory_proofs import MemoryProofStore
from hybrid.limits import Limits
from tests.support.proofs import proof
from tests.support.tokens import AUDIENCE, EC_KEY, ISSUER, NOW_S, OKP_KEY, RSA_KEY, HandClock, claims, sign

COUNT: Final = 4_000
ROUNDS: Final = 3
URL: Final = f"{AUDIENCE}/v1/stream"


async def cpu_s(calls: list[Callable[[], Awaitable[object]]]) -> float:
    """CPU seconds of all calls, one after the other."""
    began_s = time.process_time()
    for call in calls:
        await call()
    return time.process_time() - began_s


async def of_jwts(count: int, key: RSAKey | ECKey | OKPKey, alg: str) -> tuple[float, float]:
    """Checks per CPU second of JWTs, miss and hit."""
    tokens = [sign(claims(jti=f"t{n}"), key, alg) for n in range(count)]
    verifier = JwtVerifier([IssuerConfig(ISSUER, keys=StaticKeys([key]))], AUDIENCE, HandClock(), Limits())
    missed_s = await cpu_s([lambda token=token: verifier.verify(token) for token in tokens])  # type: ignore[misc]
    began_s = time.process_time()
    for _ in range(25):
        for token in tokens:
            assert verifier.cached(token) is not None
    return count / missed_s, 25 * count / (time.process_time() - began_s)


async def of_opaque_tokens(count: int) -> tuple[float, float]:
    """The same of opaque tokens, but for the network: the issuer answers in this process."""

    async def post(url: str, form: Mapping[str, str]) -> dict[str, Any]:
        return {**claims(), "active": True}

    config = IntrospectionConfig(ISSUER, AUDIENCE, "hybrid", "secret", url=f"{ISSUER}/introspect")
    introspector = Introspector(config, HandClock(), Limits(), post=post)
    tokens = [f"opaque-{n:040}" for n in range(count)]
    missed_s = await cpu_s([lambda token=token: introspector.verify(token) for token in tokens])  # type: ignore[misc]
    began_s = time.process_time()
    for _ in range(25):
        for token in tokens:
            assert introspector.cached(token) is not None
    await introspector.close()
    return count / missed_s, 25 * count / (time.process_time() - began_s)


async def of_proofs(count: int, key: RSAKey | ECKey | OKPKey, alg: str) -> float:
    """Proofs of possession per CPU second, each checked and taken."""
    clock = HandClock()
    desk = ProofDesk(MemoryProofStore(clock, Limits()), clock)
    proofs = [proof("a.b.c", URL, NOW_S, key=key, alg=alg) for _ in range(count)]

    async def take(text: str) -> None:
        await desk.use_up(desk.check(text, "a.b.c", method="GET", urls=[URL]))

    return count / await cpu_s([lambda text=text: take(text) for text in proofs])  # type: ignore[misc]


async def main(count: int, rounds: int) -> None:
    """Measure, and print the best of the rounds: what disturbs can only make it slower."""
    print(f"{count} tokens, best of {rounds} rounds, per CPU second of one process\n")
    print("| checked | never seen before | seen before |\n| --- | --- | --- |")
    keys: list[tuple[str, RSAKey | ECKey | OKPKey]] = [("RS256", RSA_KEY), ("ES256", EC_KEY), ("Ed25519", OKP_KEY)]
    for alg, key in keys:
        found = [await of_jwts(count, key, alg) for _ in range(rounds)]
        print(f"| JWT {alg} | {max(miss for miss, _ in found):,.0f} | {max(hit for _, hit in found):,.0f} |")
    found = [await of_opaque_tokens(count) for _ in range(rounds)]
    print(f"| opaque, without the network | {max(m for m, _ in found):,.0f} | {max(h for _, h in found):,.0f} |")
    for alg, key in keys[:2]:
        taken = max([await of_proofs(count, key, alg) for _ in range(rounds)])
        print(f"| proof of possession {alg} | {taken:,.0f} | each counts once |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer, once")
    chosen = parser.parse_args()
    asyncio.run(main(400 if chosen.quick else COUNT, 1 if chosen.quick else ROUNDS))
