"""The tutorials run from top to bottom, at a small size."""

import re
from pathlib import Path

import pytest

from tests.conftest import said_by

TUTORIALS = sorted((Path(__file__).parent.parent / "docs/tutorials").glob("*.py"))
# What the full size is made small by; each has to be somewhere.
SMALLER = {
    "UPDATES = 943": "UPDATES = 92",
    "FURTHER = 60": "FURTHER = 4",
    "images[:100]), labels[:100]": "images[:20]), labels[:20]",
    "EPOCHS = 30": "EPOCHS = 2",
    "(1, 2, 4, 8)": "(1, 2)",
    "queries=300": "queries=10",
    "batch_size=100)": "batch_size=20)",
    "np.flatnonzero(right)[:6]": "np.flatnonzero(right)[:2]",
    "max_examples=30": "max_examples=3",
    "epochs=60": "epochs=10",
    "images[120:], labels[120:]": "images[120:144], labels[120:144]",
    "epochs=40": "epochs=4",
}
# Without instructions for it, a gradient in bfloat16 takes ten times as long.
HALF = {
    'policy="mixed_bfloat16"': 'policy="float32"',
    '("float32", "mixed_bfloat16")': '("float32",)',
}
CPU = Path("/proc/cpuinfo")


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path):
    text = path.read_text()
    emulates = CPU.exists() and "bf16" not in CPU.read_text()
    for large, small in {**SMALLER, **(HALF if emulates else {})}.items():
        text = text.replace(large, small)
    quiet = "import warnings; warnings.filterwarnings('ignore', 'This run ends')\n"
    said = said_by(quiet + text)
    # An accuracy after each of its trainings or attacks.
    assert len(re.findall(r"\d\d?\.\d%", said)) >= 3
    # And the checks of the exercises are content with the solutions. (The refutation is
    # of a network that is hardly trained here.)
    for exercise in re.findall(r"= check_\w+\((\w+)\)", text):
        assert f"\n{exercise}: right\n" in f"\n{said}"


def test_what_makes_them_small_is_in_them():
    text = "".join(path.read_text() for path in TUTORIALS)
    assert all(large in text for large in {**SMALLER, **HALF})


def test_links_of_the_tutorials_lead_somewhere():
    for path in TUTORIALS:
        lines = path.read_text().splitlines()
        prose = "".join(line[1:] for line in lines if line.startswith("#"))
        for link in re.findall(r"\]\(([^)#]+)\)", prose):
            assert link.startswith("https://") or (path.parent / link).exists(), link
