"""The progress of an import or an export, on standard error."""

from datetime import datetime, timedelta
from typing import Final, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from contact_gateway import output


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def show_wait(seconds: int, reason: str) -> None:
    """Print, above the bar, why a transfer waits and until when, in local time."""
    end = (datetime.now().astimezone() + timedelta(seconds=seconds)).isoformat("T", "seconds")
    output.console.print(f"{reason}. Waiting until {end[11:19]} (UTC{end[19:]}).", markup=False)


class TransferBar(Progress):
    """Shows how far a file is, how many rows (`noun`) are done, and the time that is left."""

    def __init__(self, noun: str, *, is_shown: bool = True) -> None:
        super().__init__(
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TimeRemainingColumn(),
            console=output.console,
            # What is on standard output is not for the terminal of the bar.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not is_shown,
        )
        self._noun: Final = noun
        self._transfer: Final = self.add_task("", total=None, done="")

    def __enter__(self) -> Self:
        """Return the bar, which the first part starts: an error before it needs none."""
        return self

    def stop(self) -> None:
        """Stop the bar, if it was started."""
        if self.live.is_started:
            super().stop()

    def show(self, count: int, position: int, end: int | None) -> None:
        """Show how many rows are done, at which position of the file or the source."""
        self.start()
        elapsed = self.tasks[0].elapsed
        rate = f", {count / elapsed:,.0f}/s" if elapsed else ""
        done = f"{counted(count, self._noun)}{rate}"
        self.update(self._transfer, completed=position, total=end, done=done)
