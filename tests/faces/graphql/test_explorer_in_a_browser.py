"""GraphiQL in a real browser without a network beyond this machine."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Request,
    Response,
    expect,
    sync_playwright,
)

from support.clock import WATCHDOG_SECONDS
from support.process import gateway_process
from support.programs import skip_or_fail

# The file for a new picture of the README.
SCREENSHOT = os.environ.get("EXPLORER_SCREENSHOT")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TIMEOUT_MILLISECONDS = WATCHDOG_SECONDS * 1000
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        skip_or_fail("chromium is not installed")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(FLAGS), timeout=TIMEOUT_MILLISECONDS
        )
        yield launched
        launched.close()


def test_a_contact_is_created_in_the_explorer(browser: Browser, tmp_path: Path) -> None:
    messages: list[str] = []
    requested: set[str] = set()

    def note_message(message: ConsoleMessage) -> None:
        messages.append(message.text)

    def note_request(request: Request) -> None:
        requested.add(request.url)

    with gateway_process(tmp_path, "--demo") as gateway:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(TIMEOUT_MILLISECONDS)
        page.on("console", note_message)
        page.on("request", note_request)
        with page.expect_response(lambda response: response.request.method == "POST"):
            page.goto(f"{gateway.address}/graphql")
        # The editor of headers is open, with an empty X-Api-Key on its second line.
        headers = page.locator(".graphiql-editor-tool .CodeMirror:visible .CodeMirror-line")
        headers.nth(1).click()
        page.keyboard.press("End")
        page.keyboard.press("ArrowLeft")
        page.keyboard.type(gateway.admin_key)
        with page.expect_response(_runs_create_contact):
            page.locator(".graphiql-execute-button").click()
            page.get_by_role("menuitem", name="CreateContact", exact=True).click()
        expect(page.locator(".result-window")).to_contain_text(
            "createContact", timeout=TIMEOUT_MILLISECONDS
        )
        shown = json.loads(
            page.evaluate(
                "document.querySelector('.result-window .CodeMirror').CodeMirror.getValue()"
            )
        )
        if SCREENSHOT is not None:
            page.evaluate("document.activeElement.blur()")
            page.screenshot(path=SCREENSHOT)
        stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")

    assert shown["data"]["createContact"]["__typename"] == "Contact"
    assert shown["data"]["createContact"]["advertiserId"] == "1001"
    assert messages == []
    assert {url.startswith(f"{gateway.address}/graphql") for url in requested} == {True}
    assert gateway.admin_key not in stored


def _runs_create_contact(response: Response) -> bool:
    sent = response.request.post_data_json
    return isinstance(sent, dict) and sent.get("operationName") == "CreateContact"
