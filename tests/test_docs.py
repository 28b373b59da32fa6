"""Docs are run: every docstring example, and every Python block of the README."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_free_adv
from keras_free_adv import backends

ROOT = Path(__file__).parent.parent
MODULES = ["keras_free_adv"] + [
    module.name
    for module in pkgutil.walk_packages(keras_free_adv.__path__, "keras_free_adv.")
    # Of the backends, the one in use.
    if module.name.removeprefix("keras_free_adv.backends.")
    not in {"tensorflow", "jax", "torch"} - {backends.NAME}
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
        if inspect.ismodule(getattr(keras_free_adv, name)):
            continue
        # Made by evaluate_robustness and compare_methods, or raised.
        made = ("RobustnessReport", "MethodComparison", "ExportDisagreesError")
        if name not in made:
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


def test_the_block_of_kerashub_makes_a_network():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(
            "keras_hub", reason='needs pip install "keras_free_adv[keras-hub]"'
        )
    page = (ROOT / "docs/guides/transfer_learning.md").read_text()
    (block,) = re.findall(r'```python title="KerasHub"\n(.*?)```', page, re.S)
    names = {"keras": keras}
    exec(compile(block, "transfer_learning.md", "exec"), names)
    network = names["network"]
    assert network.output_shape == (None, 3)
    images = np.full((2, 64, 64, 3), 255.0, "float32")
    # White is 1 after the division by 255 and the statistics of ImageNet.
    scaled = network.layers[1](images)[0, 0, 0]
    white = (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(scaled, white, atol=0.02)


def test_terms_have_the_homes_that_the_page_names():
    page = (ROOT / "docs/inside/how_it_works.md").read_text()
    table = page.split("has its home:")[1].split("\n\n")[1]
    homes = re.findall(r"\| ([^|`]+) \| `([^`]+)` ", table)
    assert len(homes) == 14
    for terms, file in homes:
        text = (ROOT / "keras_free_adv" / file).read_text().lower().replace("_", " ")
        for term in terms.split(", "):
            assert term.lower() in text, (term, file)


# Where the lines stand that docs/inside/how_it_works.md shows of an update.
UPDATE = [
    ("training/free_adversarial_model.py", "FreeAdversarialModel", "update"),
    ("backends/tensorflow.py", "Trainer", "_gradients"),
    ("backends/jax.py", "Trainer", "_gradients"),
    ("backends/torch.py", "Trainer", "_gradients"),
]


def source_of(file, class_name, method):
    """A method as its file has it; read, for a file imports its own backend."""
    text = (ROOT / "keras_free_adv" / file).read_text()
    (found,) = (
        function
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and node.name == class_name
        for function in node.body
        if isinstance(function, ast.FunctionDef) and function.name == method
    )
    lines = text.splitlines(keepends=True)[found.lineno - 1 : found.end_lineno]
    return textwrap.dedent("".join(lines))


def test_the_update_is_shown_as_it_runs():
    """In full, and nothing else: no line is left out, and none is older."""
    page = (ROOT / "docs/inside/how_it_works.md").read_text()
    section = re.search(r"^## The update\n(.*?)(?=^## )", page, re.S | re.M).group(1)
    shown = re.findall(r"^```py\n(.*?)^```", section, re.S | re.M)
    assert shown == [source_of(*place) for place in UPDATE]
    for file, _, _ in UPDATE:
        assert f"`{file}`" in section


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
