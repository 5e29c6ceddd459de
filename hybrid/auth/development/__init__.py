"""An authorization server for development: no accounts, no passwords, everything in memory. Never for production.

It exists so that one command shows everything and so that tests and benchmarks have tokens. It speaks what a real one
speaks, and as strictly: authorization codes with PKCE, refresh tokens that rotate, device codes, client credentials,
revocation, introspection and metadata. What it does not do is to find out who somebody is: whoever can reach it may
have a token under any name. That is why `check_loopback` keeps it on this machine unless told otherwise in so many
words.

`issuer.py` is the whole from outside; each of the other files has one part. All of it is synchronous: there is no
`await` between looking at a code and using it up, so each is used once, and one ES256 signature takes 35 us, so no
thread is worth its switch.
"""

from hybrid.auth.development.authorization import AuthorizationRefused, ConsentRequest
from hybrid.auth.development.bounds import Bounds
from hybrid.auth.development.clients import RESOURCE_CLIENT, RESOURCE_SECRET
from hybrid.auth.development.device import DeviceRequest, TooManyGuesses
from hybrid.auth.development.issuer import FULL_SCOPE, LIFETIME_S, DevelopmentIssuer
from hybrid.auth.development.loopback import check_loopback
from hybrid.auth.development.server import TokenAnswer
from hybrid.auth.development.signin import SUBJECT_MAX_CHARACTERS, Revocation, read_subject
from hybrid.auth.development.tokens import TokenFormat

__all__ = [
    "FULL_SCOPE",
    "LIFETIME_S",
    "RESOURCE_CLIENT",
    "RESOURCE_SECRET",
    "SUBJECT_MAX_CHARACTERS",
    "AuthorizationRefused",
    "Bounds",
    "ConsentRequest",
    "DevelopmentIssuer",
    "DeviceRequest",
    "Revocation",
    "TokenAnswer",
    "TokenFormat",
    "TooManyGuesses",
    "check_loopback",
    "read_subject",
]
