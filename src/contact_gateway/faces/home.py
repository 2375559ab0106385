"""The page at `/`: what the gateway is, and its addresses."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Collection, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Final, NamedTuple

from starlette.requests import Request

from contact_gateway.faces.graphql.statuses import prefers_html
from contact_gateway.faces.http import Response, html_page, json_response
from contact_gateway.faces.request_context import RequestContext

_DESCRIPTION: Final = "HiEnergy's contacts in GraphQL and REST, with typed errors."


class _Place(NamedTuple):
    """An address, which is shown if the gateway serves `route`."""

    name: str
    path: str
    route: str
    text: str


_ADDRESSES: Final = (
    _Place("graphql", "/graphql", "/graphql", "GraphQL, by POST"),
    _Place("rest", "/api/v1/contacts", "/api/v1/contacts", "REST"),
    _Place("mcp", "/mcp", "/mcp", "Model Context Protocol, for agents"),
)
_PAGES: Final = (
    _Place("graphiql", "/graphql", "/graphql/explorer", "GraphiQL, to try GraphQL"),
    _Place("docs", "/docs", "/docs", "Reference of the REST API"),
    _Place("openapi", "/api/v1/schema", "/api/v1/schema", "OpenAPI document of the REST API"),
    _Place("health", "/healthz", "/healthz", "Whether the process is alive"),
    _Place("readiness", "/readyz", "/readyz", "Whether requests can be served"),
)
_TEMPLATE: Final = Template(
    (files("contact_gateway.faces") / "home.html").read_text(encoding="utf-8")
)
_STYLE: Final = _TEMPLATE.template.partition("<style>")[2].partition("</style>")[0]
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()


def home_page(
    routes: Collection[str],
) -> Callable[[Request, RequestContext], Awaitable[Response]]:
    """Return the handler of `/`.

    Args:
        routes: the paths of the routes that the gateway serves.
    """
    addresses, pages = (
        [place for place in places if place.route in routes] for places in (_ADDRESSES, _PAGES)
    )

    async def home(_request: Request, context: RequestContext) -> Response:
        """Return the page to browsers, and its links in JSON to other clients."""
        root = context.root_path
        if not prefers_html(context.headers.get("accept", "")):
            links = {place.name: f"{root}{place.path}" for place in (*addresses, *pages)}
            return json_response(
                {"name": "contact-gateway", "description": _DESCRIPTION, "links": links}
            )
        page = _TEMPLATE.substitute(
            description=_DESCRIPTION,
            addresses=_rows(addresses, "$path", root),
            pages=_rows(pages, '<a href="$path">$path</a>', root),
        )
        return html_page(page.encode(), f"style-src 'sha256-{_STYLE_HASH}'", "img-src data:")

    return home


def _rows(places: Sequence[_Place], term: str, root: str) -> str:
    row = Template(f"    <dt>{term}</dt><dd>$text</dd>")
    return "\n".join(
        row.substitute(path=escape(f"{root}{place.path}"), text=place.text) for place in places
    )
