"""What notebooks show: reports, recipes, cards and attacks."""

import re
from xml.etree import ElementTree

import numpy as np

from keras_free_adv import (
    AutoAttack,
    FABAttack,
    PGDAttack,
    RobustnessReport,
    recipes,
    zoo,
)
from keras_free_adv.tables import html_table, markdown, settings_rows


def cells(table):
    """The texts of a table, row by row; read by a parser of XML."""
    rows = ElementTree.fromstring(table)
    return [["".join(cell.itertext()) for cell in row] for row in rows]


def cells_of_markdown(table):
    """Likewise, of the lines that are a table's."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [
        [cell.strip().replace(r"\|", "|") for cell in row]
        for row in rows[:1] + rows[2:]
    ]


def test_a_bar_in_a_cell_divides_no_columns():
    rows = [["a", "b"], ["x | y", "||"]]
    assert cells_of_markdown(markdown(rows)) == rows


def test_any_text_is_shown_as_it_is():
    rows = [["a", "b"], ["<script>", "x & y"], ['"quoted"', ""]]
    assert cells(html_table(rows)) == rows
    assert "<script>" not in html_table(rows)


def test_settings_that_say_nothing_are_left_out():
    shown = settings_rows("mine", {"a": 0.0, "b": None, "c": False, "d": (), "e": "x"})
    assert shown == [["mine", ""], ["a", "0.0"], ["c", "False"], ["e", "x"]]


def test_a_report_shows_its_accuracies_and_warnings():
    stands = {"natural": np.array([True] * 4), "pgd20": np.array([True, False] * 2)}
    report = RobustnessReport(
        accuracy={"natural": 1.0, "pgd20": 0.5},
        robust=stands,
        worst_case=0.5,
        seconds={},
        threat_models={},
        warnings=["a < b"],
    )
    table, end, rest = report._repr_html_().partition("</table>")
    rows = cells(table + end)
    assert [row[:2] for row in rows[1:]] == [
        ["natural", "100.00%"],
        ["pgd20", "50.00%"],
    ]
    assert "<p>Warning: a &lt; b</p>" in rest
    in_markdown = report._repr_markdown_()
    assert cells_of_markdown(in_markdown) == rows
    assert "\n**Warning:** a < b\n" in in_markdown


def test_a_recipe_and_a_card_show_what_they_hold():
    for shown in (recipes.get("digits_free4"), zoo.card("digits_free")):
        rows = [[c.strip() for c in row] for row in cells(shown._repr_html_())]
        assert cells_of_markdown(shown._repr_markdown_()) == rows
    rows = dict(cells(recipes.get("digits_free4")._repr_html_()))
    assert rows["method_arguments"] == "{'replays': 4}"
    rows = dict(cells(zoo.card("digits_free")._repr_html_()))
    assert rows["against"] == "linf, epsilon 0.16, pixels in [0, 1]"
    share = zoo.card("digits_free").accuracy["autoattack"][0]
    assert rows["autoattack"].strip().startswith(f"{share:.1%}")


def test_an_attack_prints_its_arguments():
    said = repr(PGDAttack(8 / 255, steps=10, restarts=3, seed=1))
    assert said.startswith("PGDAttack(epsilon=0.03137, steps=10, ")
    # It is Python, and says all but the rounding.
    again = eval(re.sub(r"epsilon=[\d.]+", "epsilon=8 / 255", said))
    config = again.get_config()
    found = {name: config[name] for name in ("steps", "restarts", "seed", "keep")}
    assert found == {"steps": 10, "restarts": 3, "seed": 1, "keep": "best"}
    assert repr(FABAttack(0.1)).startswith("FABAttack(epsilon=0.1, steps=100")
    # None where it is no default says something.
    assert "targets=None" in repr(FABAttack(0.1, targets=None))
    assert "version='rand'" in repr(AutoAttack(0.1, version="rand"))
