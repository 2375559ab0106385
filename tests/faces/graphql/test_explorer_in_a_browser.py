"""GraphiQL in a real browser that can reach only 127.0.0.1."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from support.browser import Window
from support.process import GatewayProcess, gateway_process


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("demo"), "--demo") as process:
        yield process


def open_explorer(window: Window, gateway: GatewayProcess) -> Page:
    """Load the page, wait until it has the schema, and fill in the admin key."""
    with window.page.expect_response(lambda response: response.request.method == "POST"):
        window.page.goto(f"{gateway.address}/graphql")
    window.page.get_by_label("API key").fill(gateway.admin_key)
    return window.page


def run(page: Page, operation: str) -> dict[str, str]:
    """Run an operation from the menu of the play button; return its root field."""

    def runs_it(response: Response) -> bool:
        sent = response.request.post_data_json
        return isinstance(sent, dict) and sent.get("operationName") == operation

    with page.expect_response(runs_it):
        page.locator(".graphiql-execute-button").click()
        page.get_by_role("menuitem", name=operation, exact=True).click()
    # GraphiQL has cleared the pane before it sent the request.
    expect(page.locator(".result-window")).to_contain_text('"data"')
    (shown,) = json.loads(
        page.evaluate("document.querySelector('.result-window .CodeMirror').CodeMirror.getValue()")
    )["data"].values()
    assert isinstance(shown, dict)
    return shown


def test_a_contact_is_created_in_each_visit(browser: Browser, gateway: GatewayProcess) -> None:
    window = Window(browser)
    page = open_explorer(window, gateway)
    expect(page.locator(".result-window")).to_contain_text("Answers appear here.")

    first, again = run(page, "CreateContact"), run(page, "CreateContact")
    page = open_explorer(window, gateway)
    second = run(page, "CreateContact")
    page.evaluate("document.activeElement.blur()")
    window.screenshot("explorer")

    assert [each["__typename"] for each in (first, again, second)] == [
        "Contact",
        "ConflictError",
        "Contact",
    ]
    assert first["advertiserId"] == second["advertiserId"] == "1001"
    assert first["email"] != second["email"]
    assert window.problems == []
    assert {url.startswith(f"{gateway.address}/graphql") for url in window.urls} == {True}


@pytest.mark.parametrize(
    "operation", ["TryWithoutCreating", "WhoAmI", "RecentContacts", "FindAdvertisers"]
)
def test_every_other_operation_runs_unchanged(
    browser: Browser, gateway: GatewayProcess, operation: str
) -> None:
    window = Window(browser)
    shown = run(open_explorer(window, gateway), operation)

    assert shown.get("__typename", "") in {"", "ContactPreview"}
    assert window.problems == []


def test_reloading_removes_the_key(browser: Browser, gateway: GatewayProcess) -> None:
    window = Window(browser)
    page = open_explorer(window, gateway)
    run(page, "WhoAmI")
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    page.reload()

    assert page.get_by_label("API key").input_value() == ""
    assert gateway.admin_key not in stored


def test_a_key_in_the_headers_pane_wins(browser: Browser, gateway: GatewayProcess) -> None:
    page = open_explorer(Window(browser), gateway)
    page.get_by_role("button", name="Headers", exact=True).click()
    page.locator(".graphiql-editor-tool .CodeMirror:visible").click()
    page.keyboard.insert_text(json.dumps({"x-api-key": gateway.member_key}))

    assert run(page, "WhoAmI") == {"label": "demo member", "role": "MEMBER"}


@pytest.mark.parametrize("width", [1000, 1440])
def test_every_line_fits_the_editor(browser: Browser, gateway: GatewayProcess, width: int) -> None:
    page = open_explorer(Window(browser, width), gateway)
    expect(page.locator(".CodeMirror")).to_have_count(4)
    overflows = page.evaluate("""async () => {
      await document.fonts.ready;
      return [...document.querySelectorAll(".CodeMirror")].map(({ CodeMirror }) => {
        // It has measured its lines with the font before.
        CodeMirror.refresh();
        const { width, clientWidth } = CodeMirror.getScrollInfo();
        return width - clientWidth;
      });
    }""")

    assert overflows == [0] * 4
