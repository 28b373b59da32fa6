"""The page of a report: all there, in one file."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import RobustnessReport
from keras_free_adv.evaluation.accuracy_curve import accuracy_curve
from keras_free_adv.evaluation.html_page import verdict
from keras_free_adv.evaluation.predicted_classes import PredictedClasses

NAMES = ("cat & dog", "<b>", "frog")


def report(**changes):
    labels = np.array([0, 1, 2, 0])
    classes = {
        "natural": np.array([0, 1, 2, 1]),
        "pgd20": np.array([0, 2, 0, 1]),
        "square": np.array([2, 1, 2, 1]),
    }
    images = np.random.default_rng(0).uniform(size=(4, 6, 6, 3)).astype("float32")
    robust = {name: read == labels for name, read in classes.items()}
    settings = {"epsilon": 8 / 255, "norm": "linf", "value_range": [0.0, 1.0]}
    values = {
        "accuracy": {name: float(stands.mean()) for name, stands in robust.items()},
        "robust": robust,
        "worst_case": 0.0,
        "seconds": {},
        "threat_models": {"pgd20": settings, "square": settings},
        "warnings": ["a < b"],
        "settings": {"model": "mine"},
        "predicted": PredictedClasses(
            labels,
            classes,
            images,
            {"pgd20": np.clip(images + 8 / 255, 0, 1), "square": images},
            NAMES,
        ),
    }
    return RobustnessReport(**{**values, **changes})


class Page(HTMLParser):
    """Tags that are open, links, and texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.links += [v for name, v in attributes if name in ("src", "href")]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "report.html"
    report().to_html(path, curve={0.0: 0.75, 8 / 255: 0.0})
    return path.read_text()


def test_it_is_whole_and_needs_no_other_file(page):
    parsed = Page(page)
    assert parsed.open == []
    assert len(parsed.links) == 3 * 3 + 1
    assert all(link.startswith("data:image/png;base64,") for link in parsed.links)
    assert "<script" not in page
    assert "http" not in page
    # What the user called a class is text.
    assert "<b>" not in page.replace("<b>Warning.</b>", "")
    assert any("a < b" in text for text in parsed.texts)


def test_pictures_are_the_images(page):
    first = Page(page).links[0].removeprefix("data:image/png;base64,")
    pixels = tf.io.decode_png(base64.b64decode(first)).numpy()
    expected = report().predicted.images[0]
    np.testing.assert_allclose(pixels / 255, expected, atol=0.5 / 255 + 1e-6)


def test_captions_say_what_is_right_without_a_color(page):
    assert "cat &amp; dog &#10003;" in page
    assert "frog \u2717 (is &lt;b&gt;)" in page
    # The last was wrong before: no perturbation is shown.
    assert page.count("wrong as it is: not attacked") == 1


def test_tables_say_what_can_be_counted_by_hand(page):
    text = re.sub(r"<[^>]+>", "|", page)
    text = re.sub(r"\|+", "|", text)
    # Of four, pgd20 breaks examples 1 and 2, square example 0; 3 was wrong before.
    assert "|pgd20|2|2|" in text
    assert "|square|1|1|" in text
    # Class 0 has two examples: natural 50%, pgd20 50%, square 0%.
    assert "|cat &amp; dog|2|50%|50%|0%|" in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"epsilon": 8 / 255},
            "After a change of each pixel by at most 8 of 255 levels, 0 of 4",
        ),
        (
            {"epsilon": 0.1},
            "After a change of each pixel by at most 10% of its range, 0 of 4",
        ),
        (
            {"epsilon": 0.5, "norm": "l2"},
            "a change of Euclidean length at most 0.5 (pixels in [0, 1]), 0 of 4",
        ),
        (
            {"epsilon": 16.0, "value_range": [0.0, 255.0]},
            "After a change of each pixel by at most 16 of 255 levels",
        ),
        ({"norm": None}, "Under attack, 0 of 4"),
    ],
)
def test_the_verdict_in_words(settings, said):
    of_all = {"norm": "linf", "value_range": [0.0, 1.0], **settings}
    text = verdict(report(threat_models={"pgd20": of_all, "square": of_all}))
    assert text.startswith("Without an attack, 3 of 4 images are classified correctly")
    assert said in text
    # Both leave one of four, and together none: Wilson's interval of 0 of 4.
    assert "0 of 4 still are (the strongest attack was pgd20; 95% interval" in text
    assert "95% interval 0.0% to 49.0%): the model does not withstand it." in text
    assert "upper bound" not in text
    assert text.endswith("No other attack can make that worse.")


def test_what_is_left_is_an_upper_bound_and_no_failure():
    threat = {"epsilon": 8 / 255, "norm": "linf", "value_range": [0.0, 1.0]}
    left = report(threat_models={"pgd20": threat, "square": threat}, worst_case=0.25)
    left.robust["square"] = left.robust["pgd20"]
    left.accuracy["square"] = left.accuracy["pgd20"]
    text = verdict(left)
    assert "1 of 4 still are (pgd20 and square alike; 95% interval" in text
    assert "does not withstand" not in text
    assert "upper bound: another one may fool the model more often" in text


def test_a_verdict_does_not_mix_norms_or_radii():
    small = {"epsilon": 8 / 255, "norm": "linf", "value_range": [0.0, 1.0]}
    other = {**small, "norm": "l2", "epsilon": 1.0}
    text = verdict(report(threat_models={"pgd20": small, "square": other}))
    # Of pgd20 alone example 0 stands, of square alone examples 1 and 2.
    assert "After a change of each pixel by at most 8 of 255 levels, 1 of 4" in text
    assert "Euclidean length at most 1 (pixels in [0, 1]), 2 of 4" in text
    # Together they leave none, and each by itself may still leave too many.
    assert "upper bound" in text
    assert "No other attack" not in text
    # The larger ball of the weaker attack says nothing of the smaller one.
    larger = {**small, "epsilon": 16 / 255}
    text = verdict(
        report(
            threat_models={"pgd20": small, "square": larger},
            accuracy={"natural": 0.75, "pgd20": 0.25, "square": 0.5},
        )
    )
    assert "at most 8 of 255 levels, 1 of 4" in text
    assert "16 of 255" not in text


def test_a_point_has_its_own_title_and_shares_are_no_percents():
    drawn = accuracy_curve({0.1: 0.5, 0.0: 1.0})
    assert "<title>epsilon 0: 100.0%</title></circle>" in drawn
    assert "<title>epsilon 0.1: 50.0%</title></circle>" in drawn
    # The first at the left and top, the second at the right, half-way.
    assert 'points="48.0,16.0 624.0,118.0"' in drawn
    with pytest.raises(ValueError, match="`curve` must map .* Divide percent by 100"):
        accuracy_curve({0.1: 50.0})


def test_a_report_from_a_file_has_no_pictures(tmp_path):
    again = RobustnessReport.from_json(report().to_json())
    again.to_html(tmp_path / "again.html")
    page = (tmp_path / "again.html").read_text()
    assert Page(page).links == []
    assert "Confusions under pgd20" in page


def test_many_classes_are_shown_as_their_commonest_mistakes(tmp_path):
    labels = np.arange(30)
    predicted = PredictedClasses(
        labels, {"natural": labels, "pgd20": np.roll(labels, 1)}
    )
    robust = {"natural": np.ones(30, bool), "pgd20": np.zeros(30, bool)}
    settings = {"epsilon": 0.1, "norm": "linf", "value_range": [0.0, 1.0]}
    report(
        predicted=predicted,
        robust=robust,
        accuracy={"natural": 1.0, "pgd20": 0.0},
        threat_models={"pgd20": settings},
    ).to_html(tmp_path / "many.html")
    page = (tmp_path / "many.html").read_text()
    assert "Confusions under pgd20: the commonest" in page
    assert page.count("<td>1</td></tr>") >= 12
