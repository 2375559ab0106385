"""Results as markdown: medians with their spread, tables, ratios between servers."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.load import CONNECTIONS
from benchmarks.measuring import Measured, Round

_HEAD: Final = (
    "",
    "answers/s",
    "p50 ms",
    "p99 ms",
    "errors",
    "CPU µs per answer",
    "memory MB",
    "peak MB",
    "cold start s",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to compare with another server's, and the ratio to reach.

    `compare` is `operator.ge` or `operator.le`. Without a ratio, there is no target.
    """

    figure: Callable[[Round], float]
    compare: Callable[[float, float], bool]
    ratio: float | None

    def result(self, measured: Measured, peer: Measured) -> str:
        """Return the ratio's spread, and whether its median meets the target."""
        ratios = measured.ratios(peer, self.figure)
        if self.ratio is None:
            return spread(ratios, 2)
        bound = "at least" if self.compare is operator.ge else "at most"
        met = "met" if self.compare(median(ratios), self.ratio) else "missed"
        return f"{spread(ratios, 2)}; {bound} {self.ratio:.3g}: {met}"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median, least and most of the values, as `1,234 (1,200 to 1,250)`."""
    middle, least, most = (
        f"{value:,.{digits}f}" for value in (median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def conditions(rounds: int, seconds: float, warm_up: float) -> str:
    """Return a sentence on the rounds and the load."""
    return (
        f"{rounds} interleaved rounds of {seconds:g} s after {warm_up:g} s of warm-up, "
        f"{CONNECTIONS} connections. Medians (least to most)."
    )


def figures(measured: Iterable[Measured]) -> str:
    """Return a table with a row per server."""
    return table(_HEAD, (_row(each) for each in measured))


def ratios(ours: Sequence[Measured], peer: Measured, targets: Mapping[str, Target]) -> str:
    """Return a table of ratios to a peer, with their targets."""
    rows = (
        (each.name, *(target.result(each, peer) for target in targets.values())) for each in ours
    )
    compared = table(("", *targets), rows)
    return f"Ratios by round to {peer.name}:\n\n{compared}"


def _row(measured: Measured) -> tuple[str, ...]:
    def of(figure: Callable[[Round], float], digits: int = 0) -> str:
        return spread([figure(each) for each in measured.rounds], digits)

    return (
        measured.name,
        of(lambda each: each.load.per_second),
        of(lambda each: each.load.p50_ms, 1),
        of(lambda each: each.load.p99_ms, 1),
        f"{sum(each.load.failures for each in measured.rounds):,}",
        of(lambda each: each.cpu_microseconds),
        of(lambda each: each.memory_mb),
        f"{measured.peak_memory_mb:,.0f}",
        spread(measured.starts, 2) if measured.starts else "",
    )
