"""All faces return the same outcome for any submission, in their documented shapes."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.faces import FACES, Answer, Json
from support.gateway import BIG_ID, CATALOGUE, running_gateway

# The characters include lone surrogates, which JSON can contain and UTF-8 cannot.
anything = st.text(st.characters(), max_size=300)
texts = (
    st.none()
    | anything
    | st.sampled_from(
        ["", " \n", "\u200b", "Maya\n", "José", "Jose\u0301", "\U0001f600" * 255, "x\x00"]
    )
)
addresses = (
    anything
    | st.emails()
    | st.sampled_from(["", "MAYA@Example.COM", "a@b", "ü@bücher.example", "\u00a0a@example.com\n"])
)
ids = (
    st.sampled_from([advertiser.id for advertiser in CATALOGUE])
    | st.integers(-1, 2**64)
    | st.integers(0, 2**64).map(str)
    | st.sampled_from([str(BIG_ID), "0001001", "", "x", "\uff11\uff10\uff10\uff11", "1e3", "-1"])
)
urls = texts | st.sampled_from(["https://www.linkedin.com/in/maya", "javascript:x", "http://[::1"])
submissions = st.fixed_dictionaries(
    {"advertiser_id": ids, "email": addresses},
    optional={
        "name": texts,
        "given_name": texts,
        "family_name": texts,
        "phone": texts,
        "job_title": texts,
        "source": texts,
        "status": texts,
        "linkedin_profile_url": urls,
    },
)
# Without surrounding spaces, which are not part of a header's value (RFC 9112, section 5.1).
idempotency_keys = st.none() | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)).map(
    lambda key: key.strip(" ")
)


@pytest.mark.usefixtures("engine")
def test_every_face_returns_the_same_outcome_for_any_submission(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_gateway(tmp_path, rate_limit_per_hour=0) as gateway:
            loop = asyncio.get_running_loop()

            async def answers(
                submitted: Mapping[str, Json], idempotency_key: str | None
            ) -> list[Answer]:
                return [
                    await face.submit(
                        gateway,
                        submitted,
                        gateway.admin,
                        idempotency_key=idempotency_key,
                        dry_run=True,
                    )
                    for face in FACES.values()
                ]

            @settings(max_examples=100)
            @given(submissions, idempotency_keys)
            @example({"advertiser_id": 1001, "email": "\ud800"}, None)
            @example({"advertiser_id": 1001, "email": "m@example.com", "name": "\ud800"}, None)
            def check(submitted: Mapping[str, Json], idempotency_key: str | None) -> None:
                coroutine = answers(submitted, idempotency_key)
                rest, *others = asyncio.run_coroutine_threadsafe(coroutine, loop).result()

                assert others == [rest, rest]
                assert rest.outcome in {"PREVIEW", "INVALID_INPUT", "NOT_FOUND"}
                assert (rest.outcome == "INVALID_INPUT") == bool(rest.problems)

            # Hypothesis is synchronous, so it runs in a thread.
            await asyncio.to_thread(check)

    asyncio.run(run())
