"""GraphiQL in a real browser that can reach only 127.0.0.1."""

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

# The path to save a screenshot to, for the documentation.
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
    console_messages: list[str] = []
    urls: set[str] = set()

    def record_message(message: ConsoleMessage) -> None:
        console_messages.append(message.text)

    def record_request(request: Request) -> None:
        urls.add(request.url)

    with gateway_process(tmp_path, "--demo") as gateway:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("console", record_message)
        page.on("request", record_request)
        with page.expect_response(lambda response: response.request.method == "POST"):
            page.goto(f"{gateway.address}/graphql")
        # The headers editor is open, and its second line has an empty X-Api-Key.
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
    assert console_messages == []
    assert {url.startswith(f"{gateway.address}/graphql") for url in urls} == {True}
    assert gateway.admin_key not in stored


def _runs_create_contact(response: Response) -> bool:
    sent = response.request.post_data_json
    return isinstance(sent, dict) and sent.get("operationName") == "CreateContact"
