import numpy as np
import pytest

from keras_free_adv.teaching import NotWrittenYetError, check_pgd
from tests.teaching.mutants import PGD, function


def test_the_right_one_passes():
    verdict = check_pgd(function(PGD))
    assert verdict.passed, verdict


def test_so_does_one_that_keeps_a_perturbation_and_looks_at_the_clean_images_first():
    def pgd(x, y, epsilon, loss_and_gradient, steps, step_size, restarts, random):
        loss_and_gradient(x, y)
        ends, losses = [], []
        for _ in range(restarts):
            delta = random.uniform(-epsilon, epsilon, x.shape).astype("float32")
            for _ in range(steps):
                _, gradient = loss_and_gradient(np.clip(x + delta, 0, 1), y)
                delta = delta + step_size * np.sign(gradient)
                delta = np.clip(delta, -epsilon, epsilon)
            ends.append(np.clip(x + delta, 0, 1))
            losses.append(loss_and_gradient(ends[-1], y)[0])
        return np.stack(ends)[np.argmax(losses, axis=0), np.arange(len(x))]

    verdict = check_pgd(pgd)
    assert verdict.passed, verdict


START = "points = np.clip(images + noise, 0, 1)"
NOISE = "random.uniform(-epsilon, epsilon, images.shape)"
STEP = "points = points + step_size * np.sign(gradient)"
BALL = "            points = np.clip(points, images - epsilon, images + epsilon)\n"
RANGE = "            points = np.clip(points, 0, 1)\n"
ASK = "_, gradient = loss_and_gradient(points, labels)"
LOSS = "        loss, _ = loss_and_gradient(points, labels)\n"
BETTER = "better = loss > largest"
AGAIN = "np.random.default_rng(0).uniform(-epsilon, epsilon, images.shape)"
MISTAKES = {
    "no start": ([(START, "points = images")], "starts at the clean images"),
    "start above": (
        [(NOISE, NOISE.replace("-epsilon", "0"))],
        "epsilon from the images on average",
    ),
    "one noise": ([(NOISE, NOISE.replace("images", "images[:1]"))], "same noise"),
    "normal": ([(NOISE, "random.normal(0, epsilon, images.shape)")], "starts at poin"),
    "signs": (
        [(NOISE, "epsilon * random.choice([-1, 1], images.shape)")],
        "1.00 epsilon on average",
    ),
    "start unclipped": ([(START, "points = images + noise")], "pixel range"),
    "downhill": ([(STEP, STEP.replace("+", "-"))], "Step 1: it goes downhill"),
    "no sign": ([(STEP, "points = points + step_size * gradient")], "*sign*"),
    "epsilon": ([(STEP, STEP.replace("step_size", "epsilon"))], "epsilon long"),
    "one": ([(STEP, "points = points + np.sign(gradient)")], "it is 1 long"),
    "no ball": ([(BALL, "")], "it leaves the ball"),
    "no range": ([(RANGE, "")], "leaves the pixel range"),
    "neither": ([(BALL, ""), (RANGE, "")], "it is not projected"),
    "around the start": (
        [
            (BALL, BALL.replace("images", "start")),
            (START, f"{START}; start = points"),
        ],
        "not from the random start",
    ),
    "from the images": (
        [(STEP, STEP.replace("points +", "images +"))],
        "begins at the clean images again",
    ),
    "asks once": (
        [(ASK, ASK.replace("points", "start")), (START, f"{START}; start = points")],
        "at the same point in every step",
    ),
    "one step less": ([("range(steps)", "range(steps - 1)")], "after 3 of the 4 steps"),
    "one step more": ([("range(steps)", "range(steps + 1)")], "more than the 4"),
    "last step lost": (
        [
            (ASK, f"{ASK}; before = points"),
            (LOSS, f"{LOSS}        points = before\n"),
        ],
        "after 3 of the 4 steps",
    ),
    "never asks": (
        [(ASK, "gradient = points - 0.5"), (LOSS, "        loss = largest + 1\n")],
        "never asks",
    ),
    "last restart": ([(BETTER, "better = loss > -1")], "keeps the last restart"),
    "first restart": (
        [(BETTER, "better = np.isinf(largest)")],
        "keeps the first restart",
    ),
    "smallest": (
        [(BETTER, "better = np.isinf(largest) | (loss < largest)")],
        "*smallest* loss",
    ),
    "whole minibatch": (
        [(BETTER, "better = np.full(len(loss), loss.mean() > largest.mean())")],
        "one restart for the whole minibatch",
    ),
    "one start": ([(NOISE, AGAIN)], "All restarts begin at the same point"),
    "one restart": ([("range(restarts)", "range(1)")], "makes 1 starts"),
    "loss too early": (
        [(ASK, ASK.replace("_, g", "loss, g")), (LOSS, "")],
        "does not ask for the loss after the last step",
    ),
    "compared too early": (
        [(ASK, ASK.replace("_, g", "loss, g")), (LOSS, LOSS.replace("loss, _", "_"))],
        "compares the losses before the last step",
    ),
    "in place": ([(STEP, f"images += 0.01; {STEP}")], "argument `images`"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake):
    changes, said = MISTAKES[mistake]
    verdict = check_pgd(function(PGD, *changes))
    assert not verdict.passed
    assert said in " ".join(verdict.findings), verdict


def test_one_that_only_does_what_the_checks_of_steps_see_is_caught():
    def pgd(images, *given, steps, **others):
        """Stops after four steps, the number it is first asked for."""
        return function(PGD)(images, *given, steps=min(steps, 4), **others)

    assert "ends elsewhere than PGDAttack" in " ".join(check_pgd(pgd).findings)


def test_one_that_is_not_written_yet_is_said_so():
    def pgd(*given, **others):
        raise NotWrittenYetError

    assert "not written yet" in str(check_pgd(pgd))
