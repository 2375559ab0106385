"""What the comparisons found, as markdown."""

from collections.abc import Mapping, Sequence

from benchmarks.figures import spread, table
from benchmarks.load import CONNECTIONS
from benchmarks.measuring import Aim, Measured

_HEAD = (
    "",
    "answers/s",
    "p50 ms",
    "p99 ms",
    "errors",
    "CPU µs an answer",
    "memory MB",
    "most MB",
    "cold start s",
)


def rounds_told(rounds: int, seconds: float, warm_up: float) -> str:
    """Return how it was measured."""
    return (
        f"{rounds} interleaved rounds of {seconds:g} s after {warm_up:g} s of warm-up, "
        f"{CONNECTIONS} connections. Medians (least to most)."
    )


def figures(rows: Sequence[Measured]) -> str:
    """Return the figures of all rows."""
    return table(_HEAD, (_row(measured) for measured in rows))


def ratios(ours: Sequence[Measured], peer: Measured, aims: Mapping[str, Aim]) -> str:
    """Return the ratios of some rows to another's, with what is aimed at."""
    rows = ((each.name, *(aim.told(each, peer) for aim in aims.values())) for each in ours)
    compared = table(("", *aims), rows)
    return f"Each round's ratio to {peer.name}, with what is aimed at:\n\n{compared}"


def _row(measured: Measured) -> tuple[str, ...]:
    return (
        measured.name,
        measured.spread(lambda each: each.load.per_second),
        measured.spread(lambda each: each.load.p50_ms, 1),
        measured.spread(lambda each: each.load.p99_ms, 1),
        f"{sum(each.load.failures for each in measured.rounds):,}",
        measured.spread(lambda each: each.cpu_microseconds),
        measured.spread(lambda each: each.memory_mb),
        f"{measured.most_memory_mb:,.0f}",
        spread(measured.starts, 2) if measured.starts else "",
    )
