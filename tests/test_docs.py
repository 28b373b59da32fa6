"""Docs are run: every docstring example, and every Python block of the README."""

import doctest
import importlib
import pkgutil
import re
import textwrap
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_free_adv

ROOT = Path(__file__).parent.parent
MODULES = ["keras_free_adv"] + [
    module.name
    for module in pkgutil.walk_packages(keras_free_adv.__path__, "keras_free_adv.")
]
# What the examples of a docstring may use without importing it.
NAMES = {"keras": keras, "np": np} | {
    name: getattr(keras_free_adv, name) for name in keras_free_adv.__all__
}


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = importlib.import_module(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny examples are rightly doubted
        failed, _ = doctest.testmod(
            module, extraglobs=NAMES, optionflags=doctest.NORMALIZE_WHITESPACE
        )
    assert failed == 0


def test_every_public_name_has_an_example():
    for name in keras_free_adv.__all__:
        # The first is made by evaluate_robustness, the second raised.
        if name not in ("RobustnessReport", "ExportDisagreesError"):
            assert ">>>" in getattr(keras_free_adv, name).__doc__, name


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
PAGES += [ROOT / "examples/README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
def test_python_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    """In their order, in one namespace, as a reader would paste them.

    A block with a title is of another library.
    """
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r" *```python(?: hl_lines=\S+)?\n(.*?)```", page.read_text(), re.S
    )
    names = {}
    for block in map(textwrap.dedent, blocks):
        exec(compile(block, page.name, "exec"), names)
    if page == ROOT / "README.md":
        assert (tmp_path / "robust.keras").exists()


@pytest.mark.parametrize("heading", ["Try it", "Test it"])
def test_the_readme_has_one_command_under(heading):
    text = (ROOT / "README.md").read_text()
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.S | re.M).group(1)
    commands = re.findall(r"```sh\n(.*?)```", section, re.S)
    assert len(commands) == 1
    assert len(commands[0].strip().splitlines()) == 1


def test_links_and_pictures_of_the_docs_exist():
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)#]+)\)", prose):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
