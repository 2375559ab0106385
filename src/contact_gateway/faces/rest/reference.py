"""The REST reference: Redoc, which shows the OpenAPI document to people."""

from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from contact_gateway.faces.http import Response, html_page
from contact_gateway.faces.request_context import RequestContext

# The page is not among its assets, so it is always served with its policy.
_FOLDER: Final = files("contact_gateway.faces.rest")
_PAGE: Final = (_FOLDER / "reference.html").read_bytes()
# The two style elements of Redoc. It fills the empty one by CSSOM.
_EMPTY_STYLE: Final = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
_SCROLLBAR_STYLE: Final = "sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc="
_POLICY: Final = (
    "script-src 'self'",
    f"style-src 'self' '{_EMPTY_STYLE}' '{_SCROLLBAR_STYLE}'",
    "img-src data:",
    "connect-src 'self'",
)


def reference_assets() -> Mount:
    """Return the route of the page's scripts and style."""
    return Mount("/docs", StaticFiles(directory=str(_FOLDER / "reference")))


async def rest_reference(_request: Request, _context: RequestContext) -> Response:
    """Return the page."""
    return html_page(_PAGE, *_POLICY)
