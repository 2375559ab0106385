"""GraphiQL in a real browser, with all network but this machine's own address switched off."""

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

from support.process import gateway_process
from support.programs import skip_or_fail

# Where the README's picture goes when it is to be taken anew.
SCREENSHOT = os.environ.get("EXPLORER_SCREENSHOT")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
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
        skip_or_fail("there is no chromium on the PATH to try the explorer with")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        launched.close()


def test_a_contact_is_created_in_the_explorer(browser: Browser, tmp_path: Path) -> None:
    complaints: list[str] = []
    requested: set[str] = set()

    def complain(message: ConsoleMessage) -> None:
        complaints.append(message.text)

    def note(request: Request) -> None:
        requested.add(request.url)

    with gateway_process(tmp_path, "--demo") as gateway:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("console", complain)
        page.on("request", note)
        with page.expect_response(lambda response: response.request.method == "POST"):
            page.goto(f"{gateway.address}/graphql")
        # The headers' editor is open, with an empty X-Api-Key on its second line.
        headers = page.locator(".graphiql-editor-tool .CodeMirror:visible .CodeMirror-line")
        headers.nth(1).click()
        page.keyboard.press("End")
        page.keyboard.press("ArrowLeft")
        page.keyboard.type(gateway.admin_key)
        with page.expect_response(_runs_create_contact):
            page.locator(".graphiql-execute-button").click()
            page.get_by_role("menuitem", name="CreateContact", exact=True).click()
        expect(page.locator(".result-window")).to_contain_text("createContact")
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
    assert complaints == []
    assert {url.startswith(f"{gateway.address}/graphql") for url in requested} == {True}
    assert gateway.admin_key not in stored


def _runs_create_contact(response: Response) -> bool:
    sent = response.request.post_data_json
    return isinstance(sent, dict) and sent.get("operationName") == "CreateContact"
