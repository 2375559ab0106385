"""The tools: their descriptions, arguments and results."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from jsonschema import Draft202012Validator

from contact_gateway.contacts.source import HIENERGY_FILTERS, OWN_FILTERS, KnownFilters
from contact_gateway.faces.mcp.descriptions import described_tools
from support.faces import Json
from support.gateway import BIG_ID, Gateway, running_gateway

pytestmark = pytest.mark.anyio

DOCUMENTATION: Final = Path(__file__).parents[3] / "docs" / "mcp.md"
CREATING: Final = (
    "add_contact",
    "create_contact",
    "add_contact_for_advertiser",
    "add_contacts",
)
READING: Final = (
    "get_advertiser_contacts",
    "search_contacts",
    "find_contacts",
    "search_advertisers",
    "search_advertisers_by_domain",
    "get_advertiser",
)
EMAIL: Final = "maya@example.com"
CONTACT: Final[Mapping[str, object]] = {"advertiser_id": 1001, "email": EMAIL}
NORTHWIND: Final[Mapping[str, object]] = {"advertiser": "northwind", "email": EMAIL}
GOOD: Final[Mapping[str, Mapping[str, object]]] = {
    "add_contact": {"contact": CONTACT},
    "create_contact": {"contact": CONTACT},
    "add_contact_for_advertiser": NORTHWIND,
    "add_contacts": {"contacts": [CONTACT]},
    "get_advertiser_contacts": {"advertiser": 2001},
    "search_contacts": {"q": "maya"},
    "find_contacts": {"advertiser_name": "Northwind"},
    "search_advertisers": {"name": "Northwind"},
    "search_advertisers_by_domain": {"domain": "https://www.northwind.example/shop"},
    "get_advertiser": {"id": "Kestrel"},
}
SOURCES = pytest.mark.parametrize(
    "filters", [OWN_FILTERS, HIENERGY_FILTERS], ids=["own store", "HiEnergy"]
)


async def _list(gateway: Gateway) -> dict[str, Json]:
    result = (await gateway.mcp_message("tools/list")).json()["result"]
    return {tool["name"]: tool for tool in result["tools"]}


async def _call(gateway: Gateway, tool: str, arguments: Mapping[str, object], key: str) -> Json:
    """Return the structured content of a call."""
    result = (await gateway.mcp(tool, key, **arguments)).json()["result"]
    assert result["isError"] is ("error" in result["structuredContent"])
    return result["structuredContent"]


def _problems(body: Json) -> set[tuple[str, str]]:
    assert body["error"]["code"] == "INVALID_INPUT"
    return {(each["path"], each["code"]) for each in body["error"]["details"]["problems"]}


async def test_the_tools_are_hienergys_and_those_of_the_documentation(gateway: Gateway) -> None:
    tools = await _list(gateway)
    table = DOCUMENTATION.read_text(encoding="utf-8").partition("## Tools")[2]
    first_cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]

    assert list(tools) == [*CREATING, *READING]
    assert all(any(f"`{name}`" in cell for cell in first_cells) for name in tools)


async def test_annotations_distinguish_reads_from_creations(
    gateway: Gateway,
) -> None:
    annotations = {name: tool["annotations"] for name, tool in (await _list(gateway)).items()}

    for name in (*CREATING, *READING):
        assert annotations[name] == {
            "readOnlyHint": name in READING,
            "idempotentHint": name in READING,
            "destructiveHint": False,
            "openWorldHint": False,
        }


@SOURCES
def test_schemas_are_valid_and_every_argument_is_described(filters: KnownFilters) -> None:
    for name, tool in described_tools(filters).items():
        arguments = tool.description.input_schema
        Draft202012Validator.check_schema(arguments)
        Draft202012Validator.check_schema(tool.description.output_schema or {})
        assert arguments["additionalProperties"] is False
        assert tool.description.title
        assert tool.description.description
        described = {**arguments["properties"]}
        contact = described.pop("contact", {"properties": {}})
        assert all("description" in each for each in described.values()), name
        assert all("description" in each for each in contact["properties"].values()), name


@SOURCES
def test_searches_have_the_filters_that_the_source_knows(filters: KnownFilters) -> None:
    tools = described_tools(filters)
    paging = {"page", "per_page", "limit"}

    def arguments(name: str) -> set[str]:
        return set(tools[name].description.input_schema["properties"])

    assert arguments("search_contacts") >= filters.contacts | paging
    assert arguments("find_contacts") == arguments("search_contacts")
    assert arguments("search_advertisers") >= filters.advertisers | paging
    assert arguments("get_advertiser_contacts") >= (
        filters.contacts - {"advertiser_id"} | paging | {"advertiser"}
    )


@pytest.mark.parametrize("tool", ["search_contacts", "search_advertisers"])
async def test_every_filter_of_a_search_is_accepted(gateway: Gateway, tool: str) -> None:
    names = (await _list(gateway))[tool]["inputSchema"]["properties"]

    for name in names:
        assert "data" in await _call(gateway, tool, {name: "1"}, gateway.member), name


@pytest.mark.parametrize("tool", GOOD)
async def test_results_conform_to_the_schema_of_the_tool(gateway: Gateway, tool: str) -> None:
    schema = (await _list(gateway))[tool]["outputSchema"]
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    dry_run = {**GOOD[tool], "dry_run": True} if tool in CREATING else GOOD[tool]
    bodies = [
        await _call(gateway, tool, arguments, key)
        for arguments, key in (
            (dry_run, gateway.admin),
            (GOOD[tool], gateway.admin),
            (GOOD[tool], gateway.admin),
            (GOOD[tool], gateway.unknown),
            ({"wat": 1}, gateway.admin),
        )
    ]

    assert schema["type"] == "object"
    for body in bodies:
        validator.validate(body)
    # A batch is not refused for one contact.
    repeats = tool in READING or tool == "add_contacts"
    assert ["data" in body for body in bodies] == [True, True, repeats, False, False]
    assert not validator.is_valid({})


async def test_text_and_structure_are_the_same_document(gateway: Gateway) -> None:
    answer = await gateway.mcp(
        "add_contact", gateway.admin, contact={**CONTACT, "name": "Åsa \U0001f600"}
    )
    result = answer.json()["result"]
    (content,) = result["content"]

    assert content["type"] == "text"
    assert json.loads(content["text"]) == result["structuredContent"]
    assert result["structuredContent"]["data"]["attributes"]["name"] == "Åsa \U0001f600"


@pytest.mark.parametrize("tool", [tool for tool in CREATING if tool != "add_contacts"])
async def test_a_replay_says_so(gateway: Gateway, tool: str) -> None:
    arguments = {**GOOD[tool], "idempotency_key": "k"}
    first = await _call(gateway, tool, arguments, gateway.admin)
    second = await _call(gateway, tool, arguments, gateway.admin)

    assert (first["meta"], second["meta"]) == ({}, {"replayed": True})
    assert second["data"] == first["data"]
    assert await gateway.contact_rows() == 1


FLAT_UNKNOWN: Final = {
    ("advertiser_id", "UNKNOWN_PARAMETER"),
    ("shoe_size", "UNKNOWN_PARAMETER"),
    ("dryRun", "UNKNOWN_PARAMETER"),
}


@pytest.mark.parametrize(
    ("tool", "arguments", "problems"),
    [
        ("add_contact", {}, {("contact", "REQUIRED")}),
        ("add_contact", {"contact": "Maya"}, {("contact", "INVALID_TYPE")}),
        ("add_contact", {"contact": CONTACT, "dryRun": True}, {("dryRun", "UNKNOWN_PARAMETER")}),
        (
            "add_contact",
            {"contact": CONTACT, "dryRun": True, "idempotency_key": "k"},
            {("dryRun", "UNKNOWN_PARAMETER")},
        ),
        (
            "create_contact",
            {"contact": {**CONTACT, "emial": "x", "dry_run": True}},
            {("contact.emial", "UNKNOWN_PARAMETER"), ("contact.dry_run", "UNKNOWN_PARAMETER")},
        ),
        (
            "add_contact",
            {**CONTACT, "contact": {"advertiser_id": 1.5, "email": "maya"}},
            {
                ("advertiser_id", "UNKNOWN_PARAMETER"),
                ("email", "UNKNOWN_PARAMETER"),
                ("contact.advertiser_id", "INVALID_TYPE"),
                ("contact.email", "INVALID_EMAIL"),
            },
        ),
        (
            "add_contact",
            {"contact": CONTACT, "dry_run": 1, "idempotency_key": 5},
            {("dry_run", "INVALID_TYPE"), ("idempotency_key", "INVALID_IDEMPOTENCY_KEY")},
        ),
        (
            "add_contact",
            {"contact": CONTACT, "dry_run": [False], "idempotency_key": ["k"]},
            {("dry_run", "INVALID_ARGUMENTS"), ("idempotency_key", "INVALID_ARGUMENTS")},
        ),
        (
            "add_contact_for_advertiser",
            {},
            {("advertiser", "REQUIRED"), ("email", "REQUIRED")},
        ),
        (
            "add_contact_for_advertiser",
            {**NORTHWIND, "advertiser_id": 1001, "shoe_size": 43, "dryRun": True},
            FLAT_UNKNOWN,
        ),
        (
            "add_contact_for_advertiser",
            {"advertiser": "nobody", "email": "maya", "linkedin_profile_url": "x"},
            {("email", "INVALID_EMAIL"), ("linkedin_profile_url", "INVALID_URL")},
        ),
        ("get_advertiser", {}, {("id", "REQUIRED")}),
        ("get_advertiser", {"id": 1001, "page": 1}, {("page", "UNKNOWN_PARAMETER")}),
        ("get_advertiser_contacts", {"q": "x"}, {("advertiser", "REQUIRED")}),
        (
            "get_advertiser_contacts",
            {"advertiser": 1001, "advertiser_id": 1002, "page": 0},
            {("advertiser_id", "UNKNOWN_PARAMETER"), ("page", "OUT_OF_RANGE")},
        ),
        ("search_contacts", {"advertiserId": 1}, {("advertiserId", "UNKNOWN_PARAMETER")}),
        ("search_contacts", {"q": 5}, {("q", "INVALID_TYPE")}),
        ("search_advertisers", {"foo": None}, {("foo", "UNKNOWN_PARAMETER")}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_unusable_arguments_are_named_and_change_nothing(
    gateway: Gateway, tool: str, arguments: Mapping[str, object], problems: set[tuple[str, str]]
) -> None:
    body = await _call(gateway, tool, arguments, gateway.admin)

    assert _problems(body) == problems
    assert await gateway.contact_rows() == 0


async def test_an_unknown_argument_comes_with_the_nearest_one(gateway: Gateway) -> None:
    body = await _call(gateway, "add_contact", {"contact": {"emial": "x"}}, gateway.admin)
    messages = {each["path"]: each["message"] for each in body["error"]["details"]["problems"]}

    assert messages["contact.emial"] == "Unknown parameter. Did you mean `email`?"


@pytest.mark.parametrize(
    ("dry_run", "rows"),
    [(True, 0), ("true", 0), (False, 1), ("False", 1), (None, 1)],
    ids=["true", "the text true", "false", "the text False", "null"],
)
async def test_a_dry_run_is_a_boolean_or_its_text(
    gateway: Gateway, dry_run: object, rows: int
) -> None:
    body = await _call(
        gateway, "add_contact", {"contact": CONTACT, "dry_run": dry_run}, gateway.admin
    )

    assert ("dry_run" in body["meta"]) is (rows == 0)
    assert await gateway.contact_rows() == rows


@pytest.mark.parametrize(
    ("advertiser", "owner"),
    [
        ("1001", 1001),
        (2002, 1001),
        ("northwind", 1001),
        ("Northwind.Example", 1001),
        ("northwind outfitters", 1001),
        ("Northwind UK", 1001),
        ("ridian", BIG_ID),
    ],
    ids=[
        "an id",
        "a network record's id",
        "a slug",
        "a domain",
        "a display name",
        "a network record's name",
        "a part of the names of one brand",
    ],
)
async def test_a_contact_is_added_for_the_one_advertiser_that_matches(
    gateway: Gateway, advertiser: object, owner: int
) -> None:
    arguments = {"advertiser": advertiser, "email": EMAIL, "job_title": "Buyer"}
    body = await _call(gateway, "add_contact_for_advertiser", arguments, gateway.admin)
    listed = await _call(
        gateway, "get_advertiser_contacts", {"advertiser": advertiser}, gateway.member
    )
    read = await _call(gateway, "get_advertiser", {"id": advertiser}, gateway.member)

    assert body["data"]["attributes"]["advertiser_id"] == owner
    assert body["data"]["attributes"]["job_title"] == "Buyer"
    assert listed["data"] == [body["data"]]
    assert str(read["data"]["attributes"]["hienergy_id"]) == str(owner)


async def test_the_same_key_with_another_name_of_the_brand_is_a_replay(gateway: Gateway) -> None:
    contacts = [
        await _call(
            gateway,
            "add_contact_for_advertiser",
            {"advertiser": name, "email": EMAIL, "idempotency_key": "k"},
            gateway.admin,
        )
        for name in ("Northwind US", "northwind.example", 2002)
    ]

    assert len({each["data"]["id"] for each in contacts}) == 1


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ("add_contact_for_advertiser", "advertiser"),
        ("get_advertiser_contacts", "advertiser"),
        ("get_advertiser", "id"),
    ],
)
@pytest.mark.parametrize(
    ("text", "candidates"),
    [("i", ["1001", str(BIG_ID), "3001"]), ("nobody", None), ("9", None)],
    ids=["several", "none", "an unknown id"],
)
async def test_no_or_several_matches_are_not_found_with_the_candidates(
    gateway: Gateway, tool: str, name: str, text: str, candidates: list[str] | None
) -> None:
    arguments = {name: text, "email": EMAIL} if tool in CREATING else {name: text}
    error = (await _call(gateway, tool, arguments, gateway.admin))["error"]

    assert error["code"] == "NOT_FOUND"
    if candidates is None:
        assert error["details"] == {}
    else:
        assert [record["id"] for record in error["details"]["candidates"]] == candidates
    assert await gateway.contact_rows() == 0


async def test_a_network_record_without_a_brand_owns_no_contact(gateway: Gateway) -> None:
    arguments = {"advertiser": "Unlisted", "email": EMAIL}
    error = (await _call(gateway, "add_contact_for_advertiser", arguments, gateway.admin))["error"]

    assert (error["code"], error["details"]) == ("NOT_FOUND", {})


@pytest.mark.parametrize("tool", CREATING)
async def test_members_are_refused_before_their_arguments_are_read(
    gateway: Gateway, tool: str
) -> None:
    body = await _call(gateway, tool, {"wat": 1}, gateway.member)

    assert body["error"]["code"] == "FORBIDDEN"


@pytest.mark.parametrize("tool", [tool for tool in GOOD if tool != "add_contacts"])
async def test_each_call_is_one_operation_of_the_budget(tmp_path: Path, tool: str) -> None:
    async with running_gateway(tmp_path, rate_limit_per_hour=1) as gateway:
        used = await gateway.mcp(tool, gateway.admin, **GOOD[tool])
        refused = await gateway.mcp(tool, gateway.admin, **GOOD[tool])
        listed = await gateway.mcp_message("tools/list", gateway.admin)

    error = refused.json()["result"]["structuredContent"]["error"]
    assert "data" in used.json()["result"]["structuredContent"]
    assert used.headers["X-RateLimit-Remaining"] == "0"
    assert error["code"] == "RATE_LIMITED"
    assert 0 < error["details"]["retry_after_seconds"] <= 3600
    assert listed.json()["result"]["tools"]


async def test_pages_are_those_of_rest(gateway: Gateway) -> None:
    arguments = {"name": "Northwind", "page": 1, "per_page": 2}
    body = await _call(gateway, "search_advertisers", arguments, gateway.member)
    rest = await gateway.rest("/advertisers", gateway.member, name="Northwind", per_page=2)

    assert body == rest.json()
    assert body["meta"]["next_page"] == 2
