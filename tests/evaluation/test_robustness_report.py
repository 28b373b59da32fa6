import json

import numpy as np
import pytest

from keras_free_adv import RobustnessReport, published_figures
from keras_free_adv.evaluation.paper_attacks import paper_attacks


def report(right=None, checksum=1, pgd20=None, **settings):
    """400 examples: 300 right, 100 of them robust to a, 60 to autoattack."""
    stands = lambda count: np.arange(400) < count  # noqa: E731
    robust = {
        "natural": stands(300) if right is None else right,
        "pgd20": stands(100),
        "autoattack": stands(60),
    }
    return RobustnessReport(
        accuracy={name: float(array.mean()) for name, array in robust.items()},
        robust=robust,
        worst_case=0.15,
        seconds={"natural": 1.0, "pgd20": 20.0, "autoattack": 300.0},
        threat_models={
            "pgd20": {"epsilon": 0.03} if pgd20 is None else pgd20,
            "autoattack": {"epsilon": 0.03},
        },
        warnings=["Something."],
        passes={
            "natural": {"forward": 400, "backward": 0},
            "pgd20": {"forward": 6000, "backward": 6000},
            "autoattack": {"forward": 1234567, "backward": 300},
        },
        stages={"autoattack": {"apgd_ce": 0.2, "square": 0.15}},
        settings={"data": {"checksum": checksum}},
        **settings,
    )


def test_the_table_on_the_console():
    lines = str(report()).splitlines()
    cells = [line.split() for line in lines]
    assert cells[1][:2] == ["natural", "75.00%"]
    # Wilson's interval of 100 of 400.
    assert cells[2] == ["pgd20", "25.00%", "21.0%", "to", "29.5%", "20.0"] + [
        "6,000",
        "6,000",
    ]
    assert cells[3] == ["after", "apgd_ce", "20.00%"]
    assert cells[4] == ["after", "square", "15.00%"]
    assert cells[5][:2] == ["autoattack", "15.00%"]
    assert cells[6][:3] == ["worst", "case", "15.00%"]
    assert cells[6][-3:] == ["321.0", "1,240,967", "6,300"]
    assert "400 examples" in lines[-2]
    assert lines[-1] == "Warning: Something."
    assert len({len(line) for line in lines[1:3]}) == 1  # columns are aligned


def test_the_markdown_has_a_cell_for_every_column():
    table = [line for line in report().to_markdown().splitlines() if line[:1] == "|"]
    assert {line.count("|") for line in table} == {7}
    assert "| pgd20 | 25.00% | 21.0% to 29.5% | 20.0 | 6,000 | 6,000 |" in table
    assert "**Warning:** Something." in report().to_markdown()


def test_published_figures_stand_beside_and_are_labelled():
    published = published_figures("cifar10", "free_m8")
    markdown = report().to_markdown(published=published)
    assert "published (Shafahi et al. 2019)" in markdown.splitlines()[0]
    assert "| pgd20 | 25.00% | 21.0% to 29.5% | 46.82% |" in markdown
    assert "46.82%" in report().to_text(published=published)
    assert "published" not in str(report())


def test_json_holds_everything_and_is_read_again():
    made = report()
    read = RobustnessReport.from_json(made.to_json(indent=1))
    assert read.to_dict() == made.to_dict()
    np.testing.assert_array_equal(read.robust["pgd20"], made.robust["pgd20"])
    plain = json.loads(made.to_json())
    assert plain["schema_version"] == 2
    assert plain["examples"] == 400
    assert plain["intervals"]["pgd20"] == pytest.approx([0.2101, 0.2947], abs=1e-4)
    assert "seconds" not in made.to_dict(seconds=False)
    assert RobustnessReport.from_json(made.to_json(seconds=False)).seconds == {}


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"schema_version": 99}'])
def test_what_is_no_report_is_refused(text):
    with pytest.raises(ValueError, match="`text` must be a report"):
        RobustnessReport.from_json(text)


@pytest.mark.parametrize("part", ["robust", "accuracy", "threat_models"])
def test_an_incomplete_report_is_refused(part):
    whole = report().to_dict()
    del whole[part]
    with pytest.raises(ValueError, match="`text` must be a report as `to_json`"):
        RobustnessReport.from_json(json.dumps(whole))


def test_a_report_of_no_natural_accuracy_is_refused():
    whole = report().to_dict()
    del whole["robust"]["natural"]
    with pytest.raises(ValueError, match="`text` must be a report as `to_json`"):
        RobustnessReport.from_json(json.dumps(whole))


MEANT = {
    "epsilon": 0.03,
    "steps": 20,
    "value_range": (0, 1),
    "seed": 1,
    "name": "pgd20",
    "logits": "logits",
    "from_logits": "auto",
    "attacks": [{"config": {"seed": 1, "queries": 5}}],
}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"epsilon": 0.06}, r"epsilon=0.03 in this .* epsilon=0.06 in the other"),
        (
            {"steps": 10, "keep": "last"},
            r"steps=20, keep=None .* steps=10, keep='last'",
        ),
        ({"attacks": [{"config": {"seed": 1, "queries": 9}}]}, "attacks=.*9"),
    ],
)
def test_reports_on_other_attacks_are_not_compared(changes, found):
    one, other = report(pgd20=MEANT), report(pgd20={**MEANT, **changes})
    for compare in (one.difference, one.p_value):
        with pytest.raises(ValueError, match=f"`other` .*'pgd20' with {found}"):
            compare(other, "pgd20")
    assert one.p_value(other) == 1.0  # naturally they can be


@pytest.mark.filterwarnings("ignore:.* is too small to claim")
def test_of_an_attack_draws_and_the_way_to_the_logits_may_differ():
    """And tuples are lists, in a report that was read from a file."""
    changes = {"seed": 2, "name": "other", "logits": "softmax_input"}
    changes |= {"from_logits": True, "value_range": [0, 1]}
    changes["attacks"] = [{"config": {"seed": 2, "queries": 5}}]
    one, other = report(pgd20=MEANT), report(pgd20={**MEANT, **changes})
    assert one.p_value(other, "pgd20") == 1.0
    assert one.difference(other, "pgd20")[0] == 0.0
    read = RobustnessReport.from_json(one.to_json())
    assert read.p_value(one, "pgd20") == 1.0


def test_a_difference_too_small_for_the_examples_is_not_to_be_claimed():
    better = np.arange(400) < 304
    with pytest.warns(UserWarning, match="natural: .*1.00%.* on 400 .* too small"):
        found, low, high = report(better).difference(report())
    assert found == pytest.approx(0.01)
    assert low < 0 < high
    found, low, _ = report(np.arange(400) < 340).difference(report())
    assert found == pytest.approx(0.1)
    assert low > 0.05


def test_reports_on_other_examples_are_not_compared():
    with pytest.raises(ValueError, match="`other`.*same examples"):
        report().difference(report(checksum=2))
    with pytest.raises(ValueError, match="`name`.*'fgsm'.*pgd20"):
        report().difference(report(), "fgsm")


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "imagenet"])
def test_published_columns_are_named_like_the_papers_attacks(dataset):
    training = "resnet50_free_m4" if dataset == "imagenet" else "free_m8"
    names = {attack.name for attack in paper_attacks(dataset)}
    assert set(published_figures(dataset, training)) == {"natural"} | names


def test_a_column_that_was_not_published_is_absent():
    assert "pgd20" not in published_figures("cifar10", "free_m2")


def test_an_unknown_row_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"`training`.*free_m4.*'free8'"):
        published_figures("cifar10", "free8")
    with pytest.raises(ValueError, match=r"`dataset`.*imagenet.*'mnist'"):
        published_figures("mnist", "free_m8")


def test_the_p_value_is_of_the_same_examples():
    one, other = report(np.arange(400) < 340), report(np.arange(400) < 330)
    # 10 examples differ, all to one side: 2 / 2^10.
    assert one.p_value(other) == pytest.approx(2 / 2**10)
    assert one.p_value(one) == 1.0
    with pytest.raises(ValueError, match="same examples"):
        report().p_value(report(checksum=2))
