"""How repeated measurements are told: the median, and how far they spread."""

from collections.abc import Iterable, Sequence
from statistics import median


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median with the least and the most, as `1,234 (1,200 to 1,250)`."""
    middle, least, most = (
        f"{value:,.{digits}f}" for value in (median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in markdown."""
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
