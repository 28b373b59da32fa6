"""`keras-free-adv demo`: two networks of the package, attacked on its photographs."""

import re

from tests.command_line.program import fails, typed


def test_it_prints_a_table_and_writes_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = typed("demo")
    rows = dict(re.findall(r"^(ordinary|robust)\s+\d+%\s+(\d+)%$", said, re.MULTILINE))
    # An ordinary network has nothing to withstand PGD with; that a robust one has is
    # what this project is about.
    assert int(rows["ordinary"]) <= 5
    assert int(rows["robust"]) >= 30
    assert "Of 100 photographs the ordinary network reads" in said
    page = (tmp_path / "robustness-demo.html").read_text()
    assert page.count("<figure>") >= 16
    assert "http" not in page
    assert "airplane" in page


def test_mistakes_are_told_before_any_work(tmp_path):
    assert "--epsilon must be a number above 0" in fails("demo", "--epsilon=x")
    assert "--output must end with .html" in fails("demo", "--output=a.txt")
