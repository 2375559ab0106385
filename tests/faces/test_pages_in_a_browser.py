"""The page at `/` and the REST reference in a real browser that can reach only 127.0.0.1."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from support.browser import ColorScheme, Window
from support.process import GatewayProcess, gateway_process


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Run the gateway below a path: its pages must find their files there."""
    folder = tmp_path_factory.mktemp("gateway")
    with gateway_process(folder, environment={"CONTACT_GATEWAY_ROOT_PATH": "/gw"}) as process:
        yield process


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_first_page_leads_to_the_reference(
    browser: Browser, gateway: GatewayProcess, width: int, scheme: ColorScheme
) -> None:
    window = Window(browser, width, scheme)
    window.page.goto(f"{gateway.address}/gw/")
    expect(window.page.get_by_role("heading", level=1)).to_have_text("contact-gateway")
    # The policy lets the style through only if its hash is right.
    padding = window.page.evaluate("getComputedStyle(document.body).paddingTop")
    overflow = window.page.evaluate("document.body.scrollWidth - innerWidth")
    window.screenshot(f"home-{width}-{scheme}")
    window.page.get_by_role("link", name="/gw/docs").click()
    expect(window.page.get_by_role("heading", name="List advertisers")).to_be_attached()
    window.screenshot(f"docs-{width}-{scheme}")

    assert padding == "48px"
    assert overflow <= 0
    assert {urlsplit(url).path for url in window.urls} == {
        "/gw/",
        "/gw/docs",
        "/gw/docs/reference.css",
        "/gw/docs/reference.js",
        "/gw/docs/vendor/redoc.standalone.js",
        "/gw/api/v1/schema",
    }
    assert {url.startswith(gateway.address) for url in window.urls} == {True}
    assert window.problems == []


def test_the_reference_shows_each_operation_with_its_answers(
    browser: Browser, gateway: GatewayProcess
) -> None:
    window = Window(browser)
    window.page.goto(f"{gateway.address}/gw/docs")
    with gateway.client() as client:
        document = client.get("/api/v1/schema").json()
    summaries = [
        operation["summary"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method in {"get", "post"}
    ]
    for summary in summaries:
        expect(
            window.page.get_by_role("heading", level=2).get_by_text(summary, exact=True).first
        ).to_be_attached()
    conflict = window.page.get_by_role("button", name="409").first
    conflict.click()
    expect(conflict).to_have_attribute("aria-expanded", "true")

    assert len(summaries) > 5
    assert window.problems == []


def test_the_reference_follows_the_colour_scheme(browser: Browser, gateway: GatewayProcess) -> None:
    window = Window(browser)
    window.page.goto(f"{gateway.address}/gw/docs")
    menu = window.page.locator(".menu-content")
    expect(menu).to_have_css("background-color", "rgb(250, 250, 250)")
    window.page.emulate_media(color_scheme="dark")

    expect(menu).to_have_css("background-color", "rgb(29, 33, 38)")
    assert window.problems == []
