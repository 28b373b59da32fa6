"""Tables of HTML, as which notebooks show reports, recipes and cards."""

import html
from collections.abc import Mapping, Sequence
from typing import Any


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """A table; its first row is the header.

    Example:
    >>> html_table([["attack"], ["pgd20"]])
    '<table><tr><th>attack</th></tr><tr><td>pgd20</td></tr></table>'
    """
    header, *rest = rows
    body = "".join(_row(row, "td") for row in rest)
    return f"<table>{_row(header, 'th')}{body}</table>"


def settings_table(title: str, settings: Mapping[str, Any]) -> str:
    """A table of names and values; empty values are left out."""
    shown = [[name, str(value)] for name, value in settings.items() if _says(value)]
    return html_table([[title, ""], *shown])


def _says(value: Any) -> bool:
    """Numbers and False say something; None and what is empty do not."""
    return isinstance(value, (bool, int, float)) or bool(value)


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(c)}</{tag}>' for c in cells)}</tr>"
