"""The device code grant (RFC 8628), for machines that have no keyboard or no browser."""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    InvalidGrantError,
    InvalidScopeError,
    UnauthorizedClientError,
)
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant  # type: ignore[import-untyped]

from hybrid.auth.development.bounds import Bounds
from hybrid.auth.development.clients import DEVICE_CODE, Client
from hybrid.auth.development.shelf import Shelf
from hybrid.auth.development.signin import SignIn
from hybrid.clock import Clock

USER_CODE_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""Without vowels, so that no code is a word, and without digits to mistake for letters (RFC 8628, section 6.1)."""
_HALF: Final = 4


class TooManyGuesses(Exception):
    """Too many wrong user codes of late: none is looked at for `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many wrong codes")
        self.retry_after_s = retry_after_s


@dataclass(eq=False, slots=True)
class DeviceRequest:
    """A device that waits for a person. `user_code` is as it is shown, with its dash."""

    client_id: str
    client_title: str
    scope: str
    user_code: str = field(repr=False)
    expires_at_s: float
    interval_s: float
    polled_at_s: float = float("-inf")
    sign_in: SignIn | None = None
    is_denied: bool = False

    def get_client_id(self) -> str:
        """For Authlib, which compares it with that of the token request."""
        return self.client_id

    def get_scope(self) -> str:
        """What was consented to."""
        return self.scope

    @property
    def is_decided(self) -> bool:
        """Whether the person has said yes or no."""
        return self.is_denied or self.sign_in is not None


class Devices:
    """The devices that wait, by both of their codes, and the bound on guessing the one that is short."""

    def __init__(self, clock: Clock, bounds: Bounds) -> None:
        self._clock = clock
        self._bounds = bounds
        # Kept for as long again after their end, so that a device that asks late is told what happened.
        kept_s = 2 * bounds.device_lifetime_s
        self._by_device_code = Shelf[DeviceRequest](clock, size_max=bounds.devices_max, lifetime_s=kept_s)
        self._by_user_code = Shelf[DeviceRequest](
            clock, size_max=bounds.devices_max, lifetime_s=bounds.device_lifetime_s
        )
        self._wrong: deque[float] = deque()

    def put(self, device_code: str, client: Client, scope: str, user_code: str) -> None:
        """Keep a new device."""
        request = DeviceRequest(
            client_id=client.client_id,
            client_title=client.title,
            scope=scope,
            user_code=user_code,
            expires_at_s=self._clock.monotonic_s() + self._bounds.device_lifetime_s,
            interval_s=self._bounds.device_interval_s,
        )
        self._by_device_code.put(device_code, request)
        self._by_user_code.put(_plain(user_code), request)

    def find(self, user_code: str) -> DeviceRequest | None:
        """The device that shows this code and waits for a decision; case, spaces and dashes do not matter.

        Raises TooManyGuesses. A wrong code counts as a guess, whoever sent it: a bound for each address would be no
        bound for who has many.
        """
        now_s = self._clock.monotonic_s()
        while self._wrong and self._wrong[0] <= now_s - self._bounds.guesses_window_s:
            self._wrong.popleft()
        if len(self._wrong) >= self._bounds.guesses_max:
            raise TooManyGuesses(self._wrong[0] + self._bounds.guesses_window_s - now_s)
        request = self._by_user_code.get(_plain(user_code))
        if request is None or request.is_decided:
            self._wrong.append(now_s)
            return None
        return request

    def poll(self, device_code: str) -> DeviceRequest | None:
        """The device that polls with its own code; None for a code that is not known or was used up."""
        return self._by_device_code.get(device_code)

    def use_up(self, device_code: str) -> None:
        """Its outcome was told; it is told once."""
        self._by_device_code.pop(device_code)

    def is_over(self, request: DeviceRequest) -> bool:
        """Whether its time has run out."""
        return self._clock.monotonic_s() >= request.expires_at_s

    def is_hasty(self, request: DeviceRequest) -> bool:
        """Whether this poll came too early. Then the interval grows, for it and all after it (section 3.5)."""
        now_s = self._clock.monotonic_s()
        is_early = now_s - request.polled_at_s < request.interval_s
        request.polled_at_s = now_s
        if is_early:
            request.interval_s += self._bounds.device_slow_down_s
        return is_early


class DeviceCodes(DeviceCodeGrant):  # type: ignore[misc]
    """The grant, over `Devices`. Authlib by itself lets a device code be redeemed again and again."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)
    devices: Devices  # set on the subclass that an issuer makes

    def query_device_credential(self, device_code: str) -> DeviceRequest:
        """The device that polls. Raises InvalidGrantError, which clients know, where Authlib has invalid_request."""
        request = self.devices.poll(device_code)
        if request is None:
            raise InvalidGrantError("The device code is not known, or was used.")
        return request

    def validate_device_credential(self, credential: DeviceRequest) -> Any:
        """Who let the device in; raises what the device has to be told otherwise. What is final is told once."""
        if credential.is_decided or self.devices.is_over(credential):
            self.devices.use_up(self.request.payload.data["device_code"])
        if credential.sign_in is not None and not self.devices.is_over(credential):
            return credential.sign_in
        return super().validate_device_credential(_Waiting(credential, self.devices))

    def query_user_grant(self, user_code: DeviceRequest) -> tuple[SignIn | None, bool] | None:
        """A denial; consent was seen to before."""
        return (None, False) if user_code.is_denied else None

    def should_slow_down(self, credential: Any) -> bool:
        """See `Devices.is_hasty`."""
        return self.devices.is_hasty(credential.request)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A device in the shape in which Authlib asks for it; the "user code" it hands on is the device itself."""

    request: DeviceRequest
    devices: Devices

    def is_expired(self) -> bool:
        return self.devices.is_over(self.request)

    def get_user_code(self) -> DeviceRequest:
        return self.request


class DeviceEndpoint(DeviceAuthorizationEndpoint):  # type: ignore[misc]
    """The device authorization endpoint (RFC 8628, section 3.1)."""

    CLIENT_AUTH_METHODS = ("none",)
    issuer: str  # these four are set on the subclass that an issuer makes
    devices: Devices
    EXPIRES_IN: int
    INTERVAL: int

    def authenticate_client(self, request: Any) -> Client:
        """The client, if it may have a device code with this scope. Authlib does not look."""
        client: Client = super().authenticate_client(request)
        if not client.check_grant_type(DEVICE_CODE):
            raise UnauthorizedClientError("This client has no use for a device code.")
        if client.get_allowed_scope(request.payload.scope) is None:
            raise InvalidScopeError
        return client

    def generate_user_code(self) -> str:
        """`XXXX-XXXX`: 34 bits, which `Devices.find` keeps from being guessed."""
        letters = [secrets.choice(USER_CODE_LETTERS) for _ in range(2 * _HALF)]
        return "".join(letters[:_HALF]) + "-" + "".join(letters[_HALF:])

    def generate_device_code(self) -> str:
        """256 bits."""
        return secrets.token_urlsafe(32)

    def get_verification_uri(self) -> str:
        """The page for the code."""
        return f"{self.issuer}/device"

    def save_device_credential(self, client_id: str, scope: str | None, data: dict[str, Any]) -> None:
        """Keep the device."""
        client = self.server.query_client(client_id)
        self.devices.put(data["device_code"], client, client.get_allowed_scope(scope), data["user_code"])


def _plain(user_code: str) -> str:
    """As it is compared: what was typed, in upper case, without what is between the letters."""
    return "".join(letter for letter in user_code.upper() if letter.isalnum())
