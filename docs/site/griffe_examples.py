"""Docstrings end in `Example:` and doctest lines; griffe wants them indented."""

import re
import textwrap
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Makes of them a section that is shown as code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring of a module, class or function."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^Examples?:\n(>>> .*)",
                lambda match: "Examples:\n" + textwrap.indent(match[1], "    "),
                obj.docstring.value,
                flags=re.M | re.S,
            )
