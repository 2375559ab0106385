"""GraphiQL for browsers: one page and its assets, all from this package, under a strict policy."""

from functools import cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from contact_gateway.faces.graphql.statuses import prefers_html

# The page lies outside of the folder of its assets, so it is never served without its policy.
_PAGE: Final = files("contact_gateway.faces.graphql") / "explorer.html"
_ASSETS: Final = files("contact_gateway.faces.graphql") / "explorer"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def wants_explorer(request: Request) -> bool:
    """Tell whether a browser asks for a page, and no client for an answer."""
    return request.method in {"GET", "HEAD"} and prefers_html(request.headers.get("accept", ""))


def explorer_page() -> Response:
    """Return the page."""
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return Response(_page(), headers=headers, media_type="text/html")


@cache
def _page() -> bytes:
    return _PAGE.read_bytes()


def explorer_assets() -> Mount:
    """Return the route of the page's scripts and styles."""
    return Mount("/graphql/explorer", StaticFiles(directory=str(_ASSETS)))
