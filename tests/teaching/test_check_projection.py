import numpy as np
import pytest

from keras_free_adv.teaching import NotWrittenYetError, check_projection
from tests.teaching.mutants import PROJECT, function


def test_the_right_one_passes():
    verdict = check_projection(function(PROJECT))
    assert verdict.passed, verdict
    assert str(verdict) == "project: right"


def test_so_does_one_that_takes_the_other_way():
    def by_maximum(points, images, epsilon):
        low, high = np.maximum(images - epsilon, 0), np.minimum(images + epsilon, 1)
        return np.minimum(np.maximum(points, low), high)

    assert check_projection(by_maximum).passed


BALL = "points = np.clip(points, images - epsilon, images + epsilon)"
RANGE = "return np.clip(points, 0, 1)"
MISTAKES = {
    "no ball": ((BALL, "pass"), "away from its image, and epsilon is 0.125"),
    "no range": ((RANGE, "return points"), "outside the pixel range: a pixel is 1.12"),
    "nothing done": ((BALL, "return points"), "returns the points as they were"),
    "the perturbation": ((RANGE, "return points - images"), "add the images"),
    "nothing": ((RANGE, "np.clip(points, 0, 1)"), "returns nothing"),
    "a word": ((RANGE, "return 'points'"), "returns str"),
    "one image": ((RANGE, "return points[0]"), "shape (4, 4, 1)"),
    "NaN": ((RANGE, "return points * np.nan"), "NaN or infinity"),
    "in place": ((RANGE, "return np.clip(points, 0, 1, out=images)"), "`images`"),
    "its points": (
        (BALL, "points += np.clip(points, images-epsilon, images+epsilon) - points"),
        "changes its argument `points`",
    ),
    "all or nothing": (
        (
            BALL,
            "points = np.where(abs(points - images) > epsilon, images, points)",
        ),
        "inside, but not the nearest ones. It differs from the library's in",
    ),
    "the images": ((RANGE, "return images"), "moves points that were inside"),
    "the whole shortened": (
        (
            BALL,
            "d = points - images\n"
            "    longest = np.abs(d).max(axis=(1, 2, 3), keepdims=True)\n"
            "    points = images + d * np.minimum(1, epsilon / longest)",
        ),
        "each pixel is clipped by itself",
    ),
    "L2": (
        (
            BALL,
            "d = points - images\n"
            "    length = np.sqrt((d ** 2).sum(axis=(1, 2, 3), keepdims=True))\n"
            "    points = images + d * np.minimum(1, epsilon / length)",
        ),
        "projects on the L2 ball",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake):
    change, said = MISTAKES[mistake]
    verdict = check_projection(function(PROJECT, change))
    assert not verdict.passed
    assert said in " ".join(verdict.findings), verdict


def test_one_that_is_not_written_yet_is_said_so():
    def project(points, images, epsilon):
        raise NotWrittenYetError

    assert "not written yet" in str(check_projection(project))


def test_an_error_of_the_student_s_code_is_a_finding_with_its_line():
    def project(points, images, epsilon):
        return points / np.ones((5, 7))

    (found,) = check_projection(project).findings
    assert "It stops with ValueError" in found
    assert "broadcast" in found
    assert "of project: return points / np.ones((5, 7))" in found
