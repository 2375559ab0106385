import io
import json

import pytest

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.catalogue import (
    COLUMNS,
    CatalogueError,
    Known,
    advertisers,
    read_csv,
    read_jsonl,
)

HEADER = "id,name,network_name,hienergy_id"


def _csv(text: str, known: Known | None = None) -> list[Advertiser]:
    return advertisers(read_csv(io.StringIO(text, newline="")), known or Known())


def _jsonl(text: str, known: Known | None = None) -> list[Advertiser]:
    return advertisers(read_jsonl(io.StringIO(text)), known or Known())


def test_a_csv_row_becomes_an_advertiser() -> None:
    text = (
        f"{','.join(COLUMNS)}\n"
        "9007199254740993,Northwind,Northwind (US),northwind,Northwind.EXAMPLE,HiEnergy,Pub,active,"
    )

    assert _csv(text) == [
        Advertiser(
            id=2**53 + 1,
            name="Northwind",
            display_name="Northwind (US)",
            slug="northwind",
            domain="northwind.example",
            network_name=HIENERGY_NETWORK,
            publisher_name="Pub",
            status="active",
            hienergy_id=2**53 + 1,
        )
    ]


def test_a_jsonl_line_becomes_an_advertiser() -> None:
    row = {"id": 2**53 + 1, "name": " Northwind ", "network_name": "CJ", "status": None}

    assert _jsonl(json.dumps(row)) == [
        Advertiser(id=2**53 + 1, name="Northwind", network_name="CJ", hienergy_id=None)
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("network_name,id,name\nCJ,1,Tern\n", id="columns in another order"),
        pytest.param(f"{HEADER}\r\n1,Tern,CJ,\r\n", id="Windows line ends"),
        pytest.param(f"{HEADER}\n\n1,Tern,CJ,\n\n", id="blank lines"),
        pytest.param(f'{HEADER}\n"1","Tern","CJ",""\n', id="quotes"),
        pytest.param(f"{HEADER}\n1, Tern ,CJ ,\n", id="spaces"),
    ],
)
def test_a_csv_file_may_be_written_in_its_usual_ways(text: str) -> None:
    assert _csv(text) == [Advertiser(id=1, name="Tern", network_name="CJ")]


def test_blank_lines_between_json_objects_are_skipped() -> None:
    row = '{"id": "1", "name": "Tern", "network_name": "CJ"}'

    assert _jsonl(f"\n{row}\n  \n") == [Advertiser(id=1, name="Tern", network_name="CJ")]


@pytest.mark.parametrize("hienergy_id", ["", "1"], ids=["empty", "its own"])
def test_a_hienergy_record_is_its_own(hienergy_id: str) -> None:
    (record,) = _csv(f"{HEADER}\n1,Tern,HiEnergy,{hienergy_id}\n")

    assert (record.is_hienergy, record.hienergy_id) == (True, 1)


@pytest.mark.parametrize(
    "network",
    ["hienergy", "HIENERGY", " HiEnergy\u00a0", "\uff28iEnergy", "\u200bhiEnergy"],
    ids=ascii,
)
def test_hienergy_is_one_network_however_it_is_written(network: str) -> None:
    (record,) = _csv(f"{HEADER}\n1,Tern,{network},\n")

    assert record == Advertiser(id=1, name="Tern", network_name=HIENERGY_NETWORK, hienergy_id=1)


def test_hienergy_records_come_first_wherever_they_stand() -> None:
    text = f"{HEADER}\n2,Tern US,CJ,1\n3,Auk US,CJ,\n1,Tern,HiEnergy,\n4,Auk,HiEnergy,\n"

    assert [(record.id, record.hienergy_id) for record in _csv(text)] == [
        (1, 1),
        (4, 4),
        (2, 1),
        (3, None),
    ]


def test_a_network_record_may_name_a_hienergy_record_that_is_known() -> None:
    (record,) = _csv(f"{HEADER}\n2,Tern US,CJ,1\n", Known(hienergy_ids=frozenset({1})))

    assert record.hienergy_id == 1


@pytest.mark.parametrize("text", [f"{HEADER}\n", f"{HEADER}\n\n"], ids=["header", "blank"])
def test_a_file_without_rows_holds_no_advertisers(text: str) -> None:
    assert _csv(text) == []


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        pytest.param("", 1, "missing column 'id'", id="an empty file"),
        pytest.param("id,name\n", 1, "missing column 'network_name'", id="a missing column"),
        pytest.param(f"{HEADER},logo\n", 1, "unknown column 'logo'", id="an unknown column"),
        pytest.param(f"{HEADER},name\n", 1, "duplicate column 'name'", id="a column twice"),
        pytest.param(f"{HEADER}\n1,T,CJ,\n2,A,CJ\n", 3, "4 columns", id="too few columns"),
        pytest.param(f"{HEADER}\n1,T,CJ,,\n", 2, "4 columns", id="too many columns"),
        pytest.param(f"{HEADER}\n,T,CJ,\n", 2, "id: A value is required", id="no id"),
        pytest.param(f"{HEADER}\nx,T,CJ,\n", 2, "id: A whole number", id="an id of letters"),
        pytest.param(f"{HEADER}\n0,T,CJ,\n", 2, "id: The smallest", id="an id of zero"),
        pytest.param(f"{HEADER}\n{2**63},T,CJ,\n", 2, "id: The largest", id="an id too large"),
        pytest.param(f"{HEADER}\n1,,CJ,\n", 2, "name: A value is required", id="no name"),
        pytest.param(f"{HEADER}\n1, ,CJ,\n", 2, "name: A value is required", id="a blank name"),
        pytest.param(f"{HEADER}\n1,{'T' * 256},CJ,\n", 2, "name: At most 255", id="a long name"),
        pytest.param(f'{HEADER}\n1,"T\nU",CJ,\n', 3, "name: Control", id="a line break in a name"),
        pytest.param(f"{HEADER}\n1,T,,\n", 2, "network_name: A value", id="no network"),
        pytest.param(f"{HEADER}\n1,T,CJ,x\n", 2, "hienergy_id: A whole", id="owner of letters"),
        pytest.param(
            f"{HEADER}\n1,T,CJ,\n\n1,T,CJ,\n",
            4,
            "duplicate id 1, first on line 2",
            id="an id twice",
        ),
        pytest.param(
            f"{HEADER}\n1,T,CJ,9\n", 2, "hienergy_id 9 is not a HiEnergy record", id="unknown owner"
        ),
        pytest.param(
            f"{HEADER}\n2,T,CJ,\n1,T,CJ,2\n",
            3,
            "hienergy_id 2 is not a HiEnergy record",
            id="a network record as owner",
        ),
        pytest.param(
            f"{HEADER}\n1,T,CJ,1\n",
            2,
            "hienergy_id 1 is not a HiEnergy record",
            id="a network record as its own owner",
        ),
        pytest.param(
            f"{HEADER}\n1,T,HiEnergy,\n2,U,HiEnergy,1\n",
            3,
            "the hienergy_id of a HiEnergy record must be empty or its own id",
            id="a HiEnergy record with another owner",
        ),
    ],
)
def test_a_csv_file_is_refused_with_line_and_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(CatalogueError) as refused:
        _csv(text)

    assert refused.value.line == line
    assert str(refused.value).startswith(f"line {line}: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(f'{HEADER}\n1,T,CJ,\n2,"U,CJ,\n', 3, id="a quote that is not closed"),
        pytest.param(f'{HEADER}\n1,"T"x,CJ,\n', 2, id="a text after a closing quote"),
    ],
)
def test_a_row_with_broken_quotes_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(CatalogueError) as refused:
        _csv(text)

    assert refused.value.line == line


GOOD_LINE = '{"id": 1, "name": "Tern", "network_name": "CJ"}\n'


@pytest.mark.parametrize(
    ("bad_line", "reason"),
    [
        pytest.param("{", "not valid JSON", id="broken"),
        pytest.param("[" * 100_000, "not valid JSON", id="too deep"),
        pytest.param('{"id": ' + "1" * 5_000 + "}", "not valid JSON", id="too many digits"),
        pytest.param("[1]", "a JSON object is expected", id="a list"),
        pytest.param("null", "a JSON object is expected", id="null"),
        pytest.param('{"name": "A", "network_name": "CJ"}', "id: A value is", id="no id"),
        pytest.param(
            '{"id": 2, "name": null, "network_name": "CJ"}', "name: A value is", id="null for name"
        ),
        pytest.param(
            '{"id": 2.5, "name": "A", "network_name": "CJ"}', "id: A whole", id="a broken number"
        ),
        pytest.param(
            '{"id": 2, "name": 7, "network_name": "CJ"}', "name: A string", id="a number for name"
        ),
        pytest.param(
            '{"id": 2, "name": "\\ud800", "network_name": "CJ"}', "name: Control", id="a surrogate"
        ),
        pytest.param(GOOD_LINE, "duplicate id 1, first on line 1", id="an id twice"),
    ],
)
def test_a_jsonl_file_is_refused_with_line_and_reason(bad_line: str, reason: str) -> None:
    with pytest.raises(CatalogueError) as refused:
        _jsonl(f"{GOOD_LINE}\n{bad_line}")

    assert refused.value.line == 3
    assert reason in str(refused.value)


def test_a_jsonl_field_that_is_no_column_is_refused_with_its_line() -> None:
    row = {"id": 2, "name": "Auk", "network_name": "CJ", "logo": "auk.png"}

    with pytest.raises(CatalogueError) as refused:
        _jsonl(GOOD_LINE + json.dumps(row))

    assert refused.value.line == 2
    assert "logo" in str(refused.value)


def _known(*, named_by: tuple[int, ...] = (), owns_contacts: bool = False) -> Known:
    """Return a store with HiEnergy record 1, which others may depend on."""
    return Known(
        hienergy_ids=frozenset({1}),
        owners=frozenset({1} if owns_contacts else ()),
        named_by={1: frozenset(named_by)} if named_by else {},
    )


@pytest.mark.parametrize(
    ("rows", "known"),
    [
        pytest.param("1,T,CJ,\n", _known(owns_contacts=True), id="it owns contacts"),
        pytest.param("1,T,CJ,\n", _known(named_by=(2,)), id="a known record names it"),
        pytest.param(
            "1,T,CJ,\n2,U,CJ,\n", _known(named_by=(2, 3)), id="one of two records still names it"
        ),
    ],
)
def test_a_hienergy_record_in_use_must_stay_one(rows: str, known: Known) -> None:
    with pytest.raises(CatalogueError, match=r"line 2: .* in use and must stay one"):
        _csv(f"{HEADER}\n{rows}", known)


@pytest.mark.parametrize(
    ("rows", "known"),
    [
        pytest.param("1,T,CJ,\n", _known(), id="without dependents"),
        pytest.param(
            "1,T,CJ,\n2,U,CJ,\n", _known(named_by=(2,)), id="the file removes its dependents"
        ),
        pytest.param(
            "1,T,CJ,3\n3,U,HiEnergy,\n2,U,CJ,3\n",
            _known(named_by=(2,)),
            id="the file gives all of them another",
        ),
    ],
)
def test_a_hienergy_record_without_dependents_may_become_a_network_record(
    rows: str, known: Known
) -> None:
    records = {record.id: record for record in _csv(f"{HEADER}\n{rows}", known)}

    assert records[1].network_name == "CJ"


def test_a_hienergy_record_in_use_may_be_renamed() -> None:
    known = _known(named_by=(2,), owns_contacts=True)

    (record,) = _csv(f"{HEADER}\n1,Arctic Tern,HiEnergy,\n", known)

    assert record.name == "Arctic Tern"


def test_no_record_may_go_on_naming_one_that_stops_being_a_hienergy_record() -> None:
    with pytest.raises(CatalogueError, match="line 3: hienergy_id 1 is not a HiEnergy record"):
        _csv(f"{HEADER}\n1,T,CJ,\n2,U,CJ,1\n", Known(hienergy_ids=frozenset({1})))
