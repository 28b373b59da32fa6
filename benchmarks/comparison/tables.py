"""Results as Markdown tables."""

import statistics
from typing import Any

from comparison.results import OURS

Result = dict[str, Any]
Rows = dict[str, dict[str, Result]]


def rows_table(rows: Rows) -> list[str]:
    """Robust accuracy and cost of both sides, a line for each peer of a row."""
    lines = [
        "| norm | attack | peer | ours % | peer % | difference "
        "| broken by ours only / by the peer only | seconds (cores), ours | peer "
        "| ours / peer | forward passes an example, ours | peer "
        "| backward, ours | peer |",
        "|---|---|---|" + "---:|" * 11,
    ]
    for row, sides in rows.items():
        ours = sides.get(OURS)
        peers = {name: side for name, side in sides.items() if name != OURS}
        for name, peer in (peers or {"-": None}).items():
            lines.append(_line(row, name, _compared(ours, peer)))
    return lines


def speed_table(rows: Rows) -> list[str]:
    """Minima and medians over the rounds."""
    lines = [
        "| norm | attack | library | robust % | minimum, s | median, s "
        "| / ours (minima) | / ours (medians) | cores | rounds |",
        "|---|---|---|" + "---:|" * 7,
    ]
    for row, sides in rows.items():
        for name, side in sides.items():
            lines.append(_line(row, name, _timed(side, sides.get(OURS))))
    return lines


def _line(row: str, name: str, cells: list[str]) -> str:
    return "| " + " | ".join([*row.split("/"), name, *cells]) + " |"


def _timed(side: Result, ours: Result | None) -> list[str]:
    cells = [f"{_accuracy(side):.1f}"]
    summaries = (min, statistics.median)
    cells += [f"{of(side['seconds']):.2f}" for of in summaries]
    for of in summaries:
        ratio = ours and of(side["seconds"]) / of(ours["seconds"])
        cells.append(f"{ratio:.2f}" if ratio else "-")
    return [
        *cells,
        f"{statistics.median(side['cores']):.2f}",
        str(len(side["seconds"])),
    ]


def _compared(ours: Result | None, peer: Result | None) -> list[str]:
    cells = [f"{_accuracy(side):.1f}" if side else "-" for side in (ours, peer)]
    if ours and peer:
        cells.append(f"{_accuracy(ours) - _accuracy(peer):+.1f}")
        only = _only_first_breaks(ours, peer), _only_first_breaks(peer, ours)
        cells.append("{} / {}".format(*only))
    else:
        cells += ["-", "-"]
    cells += [_seconds(side) if side else "-" for side in (ours, peer)]
    cells.append(f"{ours['seconds'] / peer['seconds']:.2f}" if ours and peer else "-")
    for passes in ("forward", "backward"):
        for side in (ours, peer):
            cells.append(f"{side[passes] / len(side['robust']):.1f}" if side else "-")
    return cells


def _seconds(side: Result) -> str:
    seconds = side["seconds"]
    return f"{seconds:.1f} ({side['cpu_seconds'] / seconds:.1f})"


def _accuracy(side: Result) -> float:
    return 100 * side["robust"].count("1") / len(side["robust"])


def _only_first_breaks(one: Result, other: Result) -> int:
    pairs = zip(one["robust"], other["robust"], strict=True)
    return sum(a == "0" and b == "1" for a, b in pairs)
