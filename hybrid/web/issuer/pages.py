"""The pages for people: consent to a client, and to a device. They work without JavaScript, and have none.

A page that asks for consent must not be framed, cached or sent by another page. A request that cannot be trusted with
a redirect gets a page that says so; an answer goes only to an address that was compared with the client's own.
"""

from __future__ import annotations

import secrets
from math import ceil
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from quart import Blueprint, Response, redirect, render_template, request

from hybrid.auth.development import (
    SUBJECT_MAX_CHARACTERS,
    AuthorizationRefused,
    ConsentRequest,
    DevelopmentIssuer,
    DeviceRequest,
    TokenAnswer,
    TooManyGuesses,
    read_subject,
)
from hybrid.web.issuer.browser import Browser
from hybrid.web.issuer.words import permissions, suggested_name
from hybrid.web.static import find_static_root, send_page_file

_STYLE: Final = Path(__file__).with_name("style.css")
_CODE_MAX_CHARACTERS: Final = 32
"""Of a user code as it is typed, with whatever stands between its letters."""
_BAD_NAME: Final = f"A name has 1 to {SUBJECT_MAX_CHARACTERS} characters that can be seen."

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with it browsers send `Origin: null` with a form (Fetch, section 3.2), which nobody may let in.
    # Other origins learn nothing by this one either.
    "Referrer-Policy": "same-origin",
    # The same as that of the demo page, which opens these in a window and waits for it (HTML, section 7.1.3).
    "Cross-Origin-Opener-Policy": "same-origin",
}


def add_pages(blueprint: Blueprint, issuer: DevelopmentIssuer, path: str) -> None:
    """Add the routes below `path`."""
    pages = _Pages(issuer, path)
    style = _STYLE.read_bytes()
    blueprint.add_url_rule(f"{path}/authorize", "authorize", pages.show_consent, methods=["GET"])
    blueprint.add_url_rule(f"{path}/authorize", "decide", pages.take_consent, methods=["POST"])
    blueprint.add_url_rule(f"{path}/device", "device", pages.show_device, methods=["GET"])
    blueprint.add_url_rule(f"{path}/device", "decide_device", pages.take_device, methods=["POST"])

    root = find_static_root()

    # Below our own path: an app that embeds us has files of its own below `/static`.
    @blueprint.get(f"{path}/font.woff2")
    async def font() -> Response:
        return await send_page_file(root, "demo/fonts/inter-latin.woff2")

    @blueprint.get(f"{path}/icon.svg")
    async def icon() -> Response:
        return await send_page_file(root, "favicon.svg")

    @blueprint.get(f"{path}/style.css")
    async def stylesheet() -> Response:
        response = Response(style, content_type="text/css; charset=utf-8")
        response.headers.update({"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"})
        return response


class _Pages:
    def __init__(self, issuer: DevelopmentIssuer, path: str) -> None:
        self._issuer = issuer
        self._path = path
        self._is_secure = issuer.issuer.startswith("https:")
        self._key = secrets.token_bytes(32)

    # -- a client that sends the person here (RFC 6749, section 4.1.1)

    async def show_consent(self) -> Response:
        try:
            asked = self._issuer.consent_request(request.args.items(multi=True))
        except AuthorizationRefused as refused:
            return await self._refusal(refused)
        if isinstance(asked, TokenAnswer):
            return _redirect(asked)
        hint = read_subject(asked.login_hint)
        return await self._consent(self._browser(), asked, name=hint)

    async def take_consent(self) -> Response:
        form = await request.form
        browser = self._browser()
        query = list(request.args.items(multi=True))
        try:
            asked = self._issuer.consent_request(query)
            if isinstance(asked, TokenAnswer):
                return _redirect(asked)
            if not browser.is_sealed(_consent_subject(), form.get("seal", "")):
                return await self._stale()
            subject = None
            if form.get("decision") == "allow":
                subject = read_subject(form.get("name", ""))
                if subject is None:
                    return await self._consent(browser, asked, name=form.get("name", ""), problem=_BAD_NAME)
            return _redirect(self._issuer.consent_answer(query, subject))
        except AuthorizationRefused as refused:
            return await self._refusal(refused)

    async def _consent(
        self, browser: Browser, asked: ConsentRequest, *, name: str | None = None, problem: str = ""
    ) -> Response:
        target = urlsplit(asked.redirect_uri)
        return await self._page(
            "consent",
            browser=browser,
            status=400 if problem else 200,
            # Chromium holds the redirect after a form against this list too (CSP level 3, section 6.6.3.1).
            form_targets=f"'self' {target.scheme}://{target.netloc}",
            asked=asked,
            permissions=permissions(asked.scope),
            name=suggested_name(browser.id) if name is None else name,
            seal=browser.seal(_consent_subject()),
            problem=problem,
        )

    # -- a device that has no browser (RFC 8628, section 3.3)

    async def show_device(self) -> Response:
        # Nothing is looked up for a link: a code is tried by a form only, where the bound on guesses counts it.
        return await self._code_form(self._browser(), request.args.get("user_code", ""))

    async def take_device(self) -> Response:
        form = await request.form
        browser = self._browser()
        code, seal, decision = (form.get(field, "") for field in ("user_code", "seal", "decision"))
        is_asked = bool(decision)
        if len(code) > _CODE_MAX_CHARACTERS or not browser.is_sealed(_device_subject(code if is_asked else ""), seal):
            return await self._stale()
        name = form.get("name", "")
        subject = read_subject(name) if decision == "allow" else None
        try:
            if not is_asked or (decision == "allow" and subject is None):
                device = self._issuer.device_request(code)
                if device is not None:
                    return await self._device_consent(browser, device, name if is_asked else None)
            else:
                device = self._issuer.decide_device(code, subject)
        except TooManyGuesses as refused:
            return await self._too_many(refused)
        if device is None:
            problem = (
                "No device waits with this code. It may have run out: the device shows a new one when asked again."
            )
            return await self._code_form(browser, code, problem)
        return await self._decided(subject)

    async def _code_form(self, browser: Browser, code: str, problem: str = "") -> Response:
        return await self._page(
            "device",
            browser=browser,
            status=400 if problem else 200,
            code=code[:_CODE_MAX_CHARACTERS],
            seal=browser.seal(_device_subject("")),
            problem=problem,
        )

    async def _device_consent(self, browser: Browser, device: DeviceRequest, name: str | None) -> Response:
        return await self._page(
            "device_consent",
            browser=browser,
            status=200 if name is None else 400,
            device=device,
            permissions=permissions(device.scope),
            name=suggested_name(browser.id) if name is None else name,
            seal=browser.seal(_device_subject(device.user_code)),
            problem="" if name is None else _BAD_NAME,
        )

    async def _decided(self, subject: str | None) -> Response:
        if subject is None:
            return await self._message("Denied", "The device gets nothing. You can close this page.", kind="bad")
        return await self._message(
            "The device is signed in", "It goes on by itself. You can close this page.", kind="good", name=subject
        )

    # -- pages that only say something

    async def _refusal(self, refused: AuthorizationRefused) -> Response:
        return await self._message(
            "This sign-in cannot go on",
            f"{refused.words} Go back to the page you came from; its developer finds the code of the error below.",
            status=400,
            kind="bad",
            code=refused.error,
        )

    async def _stale(self) -> Response:
        return await self._message(
            "This form is out of date",
            "It was made for another browser or another request, or this server was started anew. Nothing has "
            "happened; go back and begin again.",
            status=403,
            kind="bad",
        )

    async def _too_many(self, refused: TooManyGuesses) -> Response:
        wait_s = ceil(refused.retry_after_s)
        response = await self._message(
            "Too many wrong codes", f"Wait {wait_s} seconds, then try again.", status=429, kind="bad"
        )
        response.headers["Retry-After"] = str(wait_s)
        return response

    async def _message(self, title: str, words: str, *, status: int = 200, **more: Any) -> Response:
        return await self._page("message", status=status, form_targets="'none'", title=title, words=words, **more)

    async def _page(
        self,
        template: str,
        *,
        browser: Browser | None = None,
        status: int = 200,
        form_targets: str = "'self'",
        **values: Any,
    ) -> Response:
        text = await render_template(f"issuer/{template}.html", path=self._path, **values)
        response = Response(text, status=status, content_type="text/html; charset=utf-8")
        response.headers.update(_HEADERS)
        response.headers["Content-Security-Policy"] = "; ".join(
            (
                "default-src 'none'",
                "style-src 'self'",
                "font-src 'self'",
                "img-src 'self'",
                f"form-action {form_targets}",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )
        if browser is not None:
            browser.remember(response)
        return response

    def _browser(self) -> Browser:
        return Browser(request, self._key, is_secure=self._is_secure, path=self._path)


def _consent_subject() -> str:
    """The whole authorization request, byte for byte: the form is sent to the address at which it was shown."""
    return f"consent {request.query_string.decode('latin-1')}"


def _device_subject(user_code: str) -> str:
    """A device's code as the page shows it, or nothing yet."""
    return f"device {user_code}"


def _redirect(answer: TokenAnswer) -> Response:
    assert answer.location is not None
    response = redirect(answer.location, answer.status)
    response.headers.update({**_HEADERS, "Referrer-Policy": "no-referrer"})
    return response  # type: ignore[return-value]
