"""Rows of words as a table: for the console, in Markdown, in HTML."""

import html
from collections.abc import Mapping, Sequence
from typing import Any


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a table of Markdown; the first one is its head.

    Example:
    >>> print(markdown([["attack", "robust"], ["pgd20", "42%"]]))
    | attack | robust |
    |---|---|
    | pgd20 | 42% |
    """
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """A table; its first row is the header.

    Example:
    >>> html_table([["attack"], ["pgd20"]])
    '<table><tr><th>attack</th></tr><tr><td>pgd20</td></tr></table>'
    """
    header, *rest = rows
    body = "".join(_row(row, "td") for row in rest)
    return f"<table>{_row(header, 'th')}{body}</table>"


def settings_rows(title: str, settings: Mapping[str, Any]) -> list[list[str]]:
    """Names and values under a title; empty values are left out."""
    shown = [[name, str(value)] for name, value in settings.items() if _says(value)]
    return [[title, ""], *shown]


def _says(value: Any) -> bool:
    """Numbers and False say something; None and what is empty do not."""
    return isinstance(value, (bool, int, float)) or bool(value)


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(c)}</{tag}>' for c in cells)}</tr>"
