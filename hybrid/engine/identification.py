"""Whom a credential speaks for, counted against its sender when it is a bad one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from hybrid.auth.door import address_group
from hybrid.auth.dpop import ProofDesk
from hybrid.auth.verifier import TokenVerifier
from hybrid.engine.intake import Intake
from hybrid.engine.rates import Rates
from hybrid.errors import AuthError
from hybrid.model import Principal

_BAD: Final = ("token_refused", "proof_refused")


class Identification:
    """Tokens by `verifier`, proofs of possession by `proofs`; who shows too many bad ones is refused for a while."""

    verifier: TokenVerifier
    """May be replaced before anybody is served."""

    def __init__(self, verifier: TokenVerifier, proofs: ProofDesk, rates: Rates, intake: Intake) -> None:
        self.verifier = verifier
        self._proofs = proofs
        self._rates = rates
        self._intake = intake

    async def verified(self, token: str, address: str) -> Principal:
        """Whom a bearer token speaks for that is shown from this address. Cancel-safe.

        Raises AuthError; LimitError `failed_auths_per_s` for an unknown token after too many bad ones from there.
        """
        principal = self.verifier.cached(token)
        if principal is not None:
            return principal
        with self._judged(address_group(address)):
            return await self.verifier.verify(token)

    async def proven(self, token: str, text: str, address: str, *, method: str, urls: Sequence[str]) -> Principal:
        """As `verified`, for a token that is shown with a proof of possession (`ProofDesk.check`), which is used up.

        A proof has to be looked at each time. For a token that is known, bad ones count for that token at this address,
        so that a neighbour's do no harm to it. Raises BrokerError as well.
        """
        key = self._proofs.claimed_key(text)
        known = self.verifier.cached(token, key) if key else None
        group = address_group(address)
        with self._judged(group if known is None else (group, known.token_hash)):
            proof = self._proofs.check(text, token, method=method, urls=urls)
            principal = known if known is not None and proof.key == key else None
            if principal is None:
                principal = await self.verifier.verify(token, proof.key)
            with self._intake.told_apart():
                await self._proofs.use_up(proof)  # last: what proves nothing takes no room
        return principal

    @contextmanager
    def _judged(self, sender: Hashable) -> Iterator[None]:
        """Count it against the sender when a credential turns out to be bad, inside; what has expired was good.

        Raises LimitError `failed_auths_per_s` at once where that was so too often.
        """
        self._rates.check_failures(sender)
        try:
            yield
        except AuthError as error:
            if error.row.name in _BAD:
                self._rates.failed(sender)
            raise
