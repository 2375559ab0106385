"""A real browser that can reach only 127.0.0.1."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Request,
    expect,
    sync_playwright,
)

from support.clock import WATCHDOG_SECONDS
from support.programs import skip_or_fail

_TIMEOUT_MILLISECONDS: Final = WATCHDOG_SECONDS * 1000
ColorScheme = Literal["light", "dark"]
# The folder to save screenshots in, for the documentation.
_SCREENSHOTS: Final = os.environ.get("SCREENSHOTS")
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium without a window."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        skip_or_fail("chromium is not installed")
    expect.set_options(timeout=_TIMEOUT_MILLISECONDS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=path, args=list(_FLAGS), timeout=_TIMEOUT_MILLISECONDS
        )
        yield launched
        launched.close()


class Window:
    """A window of the browser, with the requests and the problems of its pages.

    The console reports each violation of a content security policy.
    """

    def __init__(self, browser: Browser, width: int = 1400, scheme: ColorScheme = "light") -> None:
        self.page: Final = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.page.set_default_timeout(_TIMEOUT_MILLISECONDS)
        self.problems: Final[list[str]] = []
        self.urls: Final[set[str]] = set()
        self.page.on("console", self._record_message)
        self.page.on("pageerror", self._record_error)
        self.page.on("request", self._record_request)

    def screenshot(self, name: str) -> None:
        """Save a screenshot, if SCREENSHOTS names a folder."""
        if _SCREENSHOTS is not None:
            self.page.screenshot(path=Path(_SCREENSHOTS) / f"{name}.png")

    def _record_message(self, message: ConsoleMessage) -> None:
        self.problems.append(message.text)

    def _record_error(self, error: Error) -> None:
        self.problems.append(str(error))

    def _record_request(self, request: Request) -> None:
        self.urls.add(request.url)
