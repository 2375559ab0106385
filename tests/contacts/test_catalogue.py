import io
import json

import pytest

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.catalogue import (
    COLUMNS,
    CatalogueError,
    read_csv,
    read_jsonl,
    validated,
)

HEADER = "id,name,network_name,hienergy_id"


def _csv(text: str) -> list[Advertiser]:
    return [validated(line, row) for line, row in read_csv(io.StringIO(text, newline=""))]


def _jsonl(text: str) -> list[Advertiser]:
    return [validated(line, row) for line, row in read_jsonl(io.StringIO(text))]


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


@pytest.mark.parametrize("text", [f"{HEADER}\n", f"{HEADER}\n\n"], ids=["header", "blank"])
def test_a_file_without_rows_holds_no_advertisers(text: str) -> None:
    assert _csv(text) == []


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        pytest.param("", 1, "missing column 'id'", id="an empty file"),
        pytest.param("id;name;network_name\n", 1, "not separated by commas", id="semicolons"),
        pytest.param("id\tname\tnetwork_name\n", 1, "not separated by commas", id="tabs"),
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
