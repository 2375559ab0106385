"""What imports and exports print while they run."""

import re

from contact_gateway import output
from contact_gateway.progress import show_wait


def test_a_wait_says_why_and_until_when_in_local_time() -> None:
    with output.console.capture() as captured:
        show_wait(60, "HiEnergy's hourly limit is reached")

    expected = r"HiEnergy's hourly limit is reached\. Waiting until ..:..:.. \(UTC[+-]..:..\)\.\n"
    assert re.fullmatch(expected, captured.get())


def test_brackets_in_a_reason_are_no_markup() -> None:
    with output.console.capture() as captured:
        show_wait(60, "[bold]")

    assert captured.get().startswith("[bold]. Waiting until ")
