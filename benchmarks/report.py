"""What the comparison found, as markdown."""

import argparse
import operator
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks import hive, servers
from benchmarks.figures import spread, table
from benchmarks.load import CONNECTIONS
from benchmarks.measuring import Measured, Round

_HEAD: Final = (
    "",
    "creations/s",
    "p50 ms",
    "p99 ms",
    "CPU µs a creation",
    "memory MB",
    "most MB",
    "cold start s",
)


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure's ratio to the peer's should be."""

    name: str
    figure: Callable[[Round], float]
    compare: Callable[[float, float], bool]
    ratio: float

    def told(self, ratios: Sequence[float]) -> str:
        """Return the ratios, and whether their median is what is aimed at."""
        met = "met" if self.compare(median(ratios), self.ratio) else "missed"
        return f"{spread(ratios, 2)}: {met}"


_AIMS: Final = (
    Aim("creations/s, at least 3", lambda each: each.load.per_second, operator.ge, 3),
    Aim("p99, at most 1", lambda each: each.load.p99_ms, operator.le, 1),
    Aim("memory, at most 1/3", lambda each: each.memory_mb, operator.le, 1 / 3),
)


def conditions(options: argparse.Namespace) -> str:
    """Return what is measured, and how."""
    return (
        f"contact-gateway at {_commit()} on Python {platform.python_version()}, "
        f"{hive.description()}. {options.rounds} interleaved rounds of {options.seconds:g} s after "
        f"{options.warm_up:g} s of warm-up, {CONNECTIONS} connections, the gateway on one core, "
        "the load and the upstream on another. Medians (least to most)."
    )


def report(head: str, ours: Sequence[Measured], peers: Sequence[Measured], alone: Measured) -> str:
    """Return the figures of all rows, and the ratios of ours to each peer's."""
    figures = table(_HEAD, (_row(measured) for measured in (*ours, *peers, alone)))
    return "\n\n".join((head, figures, *(_compared(ours, peer) for peer in peers), ""))


def _compared(ours: Sequence[Measured], peer: Measured) -> str:
    names = ("", *(aim.name for aim in _AIMS))
    ratios = table(names, (_ratios(measured, peer) for measured in ours))
    return f"Each round's ratio to {peer.name}, with what is aimed at:\n\n{ratios}"


def _commit() -> str:
    git = servers.tool("git", "git")

    def told(*words: str) -> str:
        return subprocess.run(  # noqa: S603 - git, with words from below
            (git, *words), cwd=servers.ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = " with changes" if told("status", "--porcelain") else ""
    return f"`{told('rev-parse', '--short', 'HEAD')}`{changed}"


def _row(measured: Measured) -> tuple[str, ...]:
    loads = [each.load for each in measured.rounds]
    return (
        measured.name,
        spread([load.per_second for load in loads]),
        spread([load.p50_ms for load in loads], 1),
        spread([load.p99_ms for load in loads], 1),
        spread([each.cpu_microseconds for each in measured.rounds]),
        spread([each.memory_mb for each in measured.rounds]),
        f"{measured.most_memory_mb:,.0f}",
        spread(measured.starts, 2) if measured.starts else "",
    )


def _ratios(measured: Measured, peer: Measured) -> tuple[str, ...]:
    rounds = tuple(zip(measured.rounds, peer.rounds, strict=True))
    return (
        measured.name,
        *(aim.told([aim.figure(mine) / aim.figure(its) for mine, its in rounds]) for aim in _AIMS),
    )
