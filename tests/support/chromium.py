"""A real Chromium without a window, driven over its DevTools protocol with the `websockets` that hybrid has anyway.

As much of the protocol as the browser tests need: one page, its screen, its errors, and expressions evaluated in it.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 30.0

_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
# Looks 20 times a second whether a condition holds; inside the page, so that one round trip is enough.
_UNTIL = """new Promise((resolve) => {
  const look = () => {
    let holds = false;
    try { holds = Boolean(%s); } catch { /* not there yet */ }
    if (holds) resolve(true); else setTimeout(look, 50);
  };
  look();
})"""

# What the browser says when the page that was to evaluate something gave way to another meanwhile.
_LEFT = ("navigated or closed", "context was destroyed", "Cannot find context", "default execution context")


def find_chromium() -> str | None:
    """The browser's executable, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page of its own browser."""

    def __init__(self, connection: ClientConnection, browser_url: str) -> None:
        self.errors: list[str] = []  # uncaught exceptions, failed loads, violations of the security policy
        self.requested: list[str] = []  # URLs
        self._connection = connection
        self._browser_url = browser_url
        self._session: str | None = None
        self._target: str | None = None
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def evaluate(self, expression: str, *, by_hand: bool = False) -> Any:
        """The JSON-able value of an expression, awaited if it is a promise. Raises AssertionError if it throws."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": by_hand}
        answer = await self.send("Runtime.evaluate", expression=expression, **options)
        thrown = answer.get("exceptionDetails")
        assert thrown is None, thrown.get("exception", {}).get("description", thrown)
        return answer["result"].get("value")

    async def until(self, condition: str, *, patience_s: float = PATIENCE_S) -> None:
        """Wait until an expression is true in the page, or in one that follows it; fail with what the page shows."""
        try:
            async with asyncio.timeout(patience_s):
                while True:
                    try:
                        await self.evaluate(_UNTIL % condition)
                        break
                    except AssertionError as error:
                        if not any(words in str(error) for words in _LEFT):
                            raise
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never came true: {condition}\nerrors: {self.errors}\n{text}") from None

    async def click(self, selector: str, *, by_hand: bool = False) -> None:
        """Click an element as a script does, or, where only a person may do something, as a person does."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).click()", by_hand=by_hand)

    async def type(self, selector: str, text: str) -> None:
        """Put the focus on a field and type into it as a keyboard does."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.send("Input.insertText", text=text)

    async def press_enter(self) -> None:
        """Press the Enter key where the focus is."""
        for kind in ("keyDown", "keyUp"):
            key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            await self.send("Input.dispatchKeyEvent", type=kind, **key)

    async def screenshot(self) -> bytes:
        """A PNG of what is on the screen."""
        answer = await self.send("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])

    async def open(self, url: str, *, width: int, height: int, scheme: str = "light", density: float = 1.0) -> None:
        """Show `url` on a screen of that size, in CSS pixels."""
        is_phone = width < 600
        screen = {"width": width, "height": height, "deviceScaleFactor": density, "mobile": is_phone}
        await self.send("Emulation.setDeviceMetricsOverride", **screen)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.send("Emulation.setEmulatedMedia", features=features)
        await self.send("Page.navigate", url=url)

    async def send(self, method: str, **parameters: Any) -> Any:
        """One DevTools command and its result."""
        session = {} if self._session is None else {"sessionId": self._session}
        return await self._command(method, parameters, session)

    async def _command(self, method: str, parameters: dict[str, Any], session: Mapping[str, str] = {}) -> Any:
        """To the page where `session` names it, otherwise to the browser."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": parameters, **session}
        await self._connection.send(json.dumps(command))
        try:
            return await answer
        finally:
            self._answers.pop(number, None)

    @asynccontextmanager
    async def window(self) -> AsyncIterator[Page]:
        """The window that this page has opened, or opens soon."""
        async with _attached(self._browser_url, is_opened=True) as page:
            yield page

    @asynccontextmanager
    async def tab(self) -> AsyncIterator[Page]:
        """One more tab of this browser, with the same storage and locks; closed afterwards, if it is not by then."""
        target = (await self._command("Target.createTarget", {"url": "about:blank"}))["targetId"]
        try:
            async with _attached(self._browser_url, target=target) as page:
                yield page
        finally:
            with suppress(Exception):
                await self._command("Target.closeTarget", {"targetId": target})

    async def close(self) -> None:
        """Close the tab as a person does."""
        await self._command("Target.closeTarget", {"targetId": self._target})

    async def _start(self, is_opened: bool, target: str | None) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while target is None:
                targets = (await self.send("Target.getTargets"))["targetInfos"]
                pages = [target for target in targets if target["type"] == "page"]
                target = next((page["targetId"] for page in pages if ("openerId" in page) == is_opened), None)
        self._target = target
        attached = await self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")

    async def _listen(self) -> None:
        async for frame in self._connection:
            message = json.loads(frame)
            if "id" in message:
                answer = self._answers.get(message["id"])
                if answer is None or answer.done():
                    continue
                if "error" in message:
                    answer.set_exception(AssertionError(message["error"]["message"]))
                else:
                    answer.set_result(message["result"])
            else:
                self._note(message["method"], message["params"])

    def _note(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requested.append(parameters["url"])


@asynccontextmanager
async def open_browser(executable: str, profile: Path, *flags: str) -> AsyncIterator[Page]:
    """A browser of its own with one empty page; gone with all its processes afterwards. `profile` must be fresh.

    `flags` are further ones of its command line.
    """
    # Root, as in containers, has no sandbox to offer.
    sandbox = ("--no-sandbox",) if os.name == "posix" and os.geteuid() == 0 else ()
    process = await asyncio.create_subprocess_exec(
        executable,
        *_FLAGS,
        *sandbox,
        *flags,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            url = await _read_address(process.stderr)
        drained = asyncio.create_task(_drain(process.stderr))
        async with _attached(url, is_opened=False) as page:
            try:
                yield page
            finally:
                with suppress(Exception):
                    await page._connection.send('{"id": 0, "method": "Browser.close"}')
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()
        drained.cancel()
        await asyncio.wait([drained])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def _attached(url: str, *, is_opened: bool = False, target: str | None = None) -> AsyncIterator[Page]:
    """The page `target` of the browser at `url`, or the first one, or one opened by a page; by its own connection."""
    async with connect(url, max_size=None, proxy=None, ping_interval=None) as connection:
        page = Page(connection, url)
        listening = asyncio.create_task(page._listen())
        try:
            await page._start(is_opened, target)
            yield page
        finally:
            listening.cancel()
            await asyncio.wait([listening])


async def _read_address(stream: asyncio.StreamReader) -> str:
    while line := await stream.readline():
        if line.startswith(b"DevTools listening on "):
            return line.removeprefix(b"DevTools listening on ").decode().strip()
    raise AssertionError("the browser ended before it listened")


async def _drain(stream: asyncio.StreamReader) -> None:
    """A full pipe would stop the browser."""
    while await stream.read(65_536):
        pass
