"""A credential is the secret that a client sent: no log and no traceback shows it."""

from contact_gateway.access.principals import Credential

SECRET = "a secret"


def test_a_credential_shows_no_secret_and_no_digest() -> None:
    credential = Credential.of(SECRET)

    for text in (repr(credential), str(credential), f"{credential}"):
        assert SECRET not in text
        assert credential.digest.hex() not in text
        assert repr(credential.digest) not in text


def test_the_digest_is_of_the_secret_even_if_utf_8_cannot_encode_it() -> None:
    digests = {Credential.of(secret).digest for secret in (SECRET, SECRET, "another", "\ud800")}

    assert [len(digest) for digest in digests] == [32, 32, 32]
