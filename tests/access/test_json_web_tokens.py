"""JSON Web Tokens: whether a text is a token, and the person that it belongs to."""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contact_gateway.access.principals import Credential

HEADER = {"alg": "RS256", "typ": "JWT"}
CLAIMS = {"iss": "https://auth.example/", "sub": "auth0|7", "aud": ["b", "a"], "exp": 1}
SCOPE = '{"iss":"https://auth.example/","sub":"auth0|7","aud":["a","b"]}'


def _segment(value: object) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _token(claims: object, header: object = HEADER, signature: str = "c2ln") -> str:
    return f"{_segment(header)}.{_segment(claims)}.{signature}"


@pytest.mark.parametrize("claims", [CLAIMS, {}, {"name": "Zoë ÿ?>"}])
def test_a_token_is_recognized(claims: object) -> None:
    assert Credential.of(_token(claims)).is_jwt


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cgw_key",
        "a.b.c",
        "..",
        _token(CLAIMS, signature=""),
        _token(CLAIMS) + ".c2ln",
        _token(CLAIMS) + "=",
        _token(CLAIMS) + "\n",
        _token(CLAIMS, {"typ": "JWT"}),
        _token(CLAIMS, {"alg": 7}),
        _token(CLAIMS, ["alg"]),
        _token(["sub"]),
        _token("sub"),
        _token(b"{"),
        _token(b"\xff"),
        _token(b'{"sub": "\\ud800"}'),
        f"a.{_segment(CLAIMS)}.c2ln",
        _token(b'{"deep": ' + b"[" * 3000 + b"]" * 3000 + b"}"),
        _token({"huge": "x" * 20_000}),
    ],
)
def test_another_text_is_an_api_key_and_its_own_scope(text: str) -> None:
    credential = Credential.of(text)

    assert not credential.is_jwt
    assert credential.scope() == text


def test_the_scope_of_a_token_is_its_person() -> None:
    assert Credential.of(_token(CLAIMS)).scope() == SCOPE


@pytest.mark.parametrize(
    "renewed",
    [
        {**CLAIMS, "exp": 2, "jti": "another"},
        {**CLAIMS, "aud": ["a", "b"]},
        dict(reversed(CLAIMS.items())),
    ],
    ids=["another time", "another order of audiences", "another order of claims"],
)
def test_a_renewed_token_has_the_same_scope(renewed: object) -> None:
    assert Credential.of(_token(renewed, signature="b3RoZXI")).scope() == SCOPE


def test_one_audience_may_be_a_text_or_a_list() -> None:
    text, listed = ({**CLAIMS, "aud": aud} for aud in ("a", ["a"]))

    assert Credential.of(_token(text)).scope() == Credential.of(_token(listed)).scope()


@pytest.mark.parametrize("name", ["iss", "sub", "aud"])
def test_another_person_has_another_scope(name: str) -> None:
    assert Credential.of(_token({**CLAIMS, name: "another"})).scope() != SCOPE


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"iss": "https://auth.example/"},
        {**CLAIMS, "sub": ""},
        {**CLAIMS, "sub": 7},
        {**CLAIMS, "iss": ["x"]},
        {**CLAIMS, "aud": [7]},
        {**CLAIMS, "aud": None},
    ],
)
def test_a_token_that_names_no_person_is_its_own_scope(claims: object) -> None:
    token = _token(claims)

    assert Credential.of(token).is_jwt
    assert Credential.of(token).scope() == token


def test_a_token_without_issuer_and_audience_belongs_to_its_subject() -> None:
    assert Credential.of(_token({"sub": "7"})).scope() == '{"iss":null,"sub":"7","aud":[]}'


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
_CLAIMS = st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp"]), _JSON)


@given(st.text() | st.builds(_token, _CLAIMS | _JSON | st.binary(), st.just(HEADER) | _JSON))
@example("\ud800")
@example("." * 2_000_000)
@example(f"{'a' * 2_000_000}.{'a' * 2_000_000}.!")
def test_no_text_breaks_it(text: str) -> None:
    credential = Credential.of(text)

    assert credential.scope() or text == ""
    assert credential.is_jwt or credential.scope() == text
