"""Estimates of what is left, against attacks of which all is known."""

import pytest

from keras_free_adv.evaluation.progress import Progress
from keras_free_adv.evaluation.time_left import TimeLeft


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_it_is_right_of_an_attack_that_fools_at_once_or_never(share):
    """Of 400 examples in batches of 100 every second falls at its first step.

    A run has 50 steps, of a pass and of a tenth of a second each.
    """
    left = TimeLeft(400, 50.0, [500.0])
    seconds = 30.0  # for the graph
    left.after(100, 0, passes=100.0, seconds=seconds)
    passes, said = 100, []
    for batch in range(4):
        if batch:
            passes += 100
        begun, fell = 100 * (batch + 1), 50 * (batch + 1)
        for _ in range(49):
            passes += 50
            now = 30.0 + 0.1 * (passes - 100)
            said.append((now, *left.after(begun, fell, passes=passes, seconds=now)))
    end = said[-1][0]
    now, of_part, of_all = said[int(share * len(said))]
    # What those cost that fell is seen at the end only.
    assert of_part == pytest.approx(end - now, abs=0.03 * (end - 30.0))
    # The 200 that stand make 500 passes more.
    assert of_all - of_part == pytest.approx(200 * 500 * 0.1, rel=0.05)


def test_it_says_nothing_before_there_is_a_pace():
    left = TimeLeft(10, 50.0, [])
    assert left.after(10, 0, passes=10.0, seconds=20.0) is None
    assert left.after(10, 0, passes=10.0, seconds=20.0) is None
    # Ten passes a second; 480 are left.
    assert left.after(10, 0, passes=20.0, seconds=21.0) == (48.0, 48.0)


def test_it_is_never_negative():
    left = TimeLeft(10, 5.0, [])
    left.after(10, 0, passes=10.0, seconds=1.0)
    # Rows that ended wait in the batch, and cost more than was said.
    assert left.after(10, 0, passes=80.0, seconds=8.0) == (0.0, 0.0)


def test_the_bar_shows_it(capsys):
    progress = Progress(10, verbose=1)
    progress.begin("square")
    progress.add(fell=4, left=(125.0, 3725.0))
    (shown,) = capsys.readouterr().out.splitlines()[-1:]
    assert "4/10" in shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "2:05" in shown  # the part's
    assert "left of all: 62 minutes" in shown
    assert "square: 0.6000" in shown
    progress.add(stood=6, left=(0.0, 0.0))
    progress.end()
    shown = capsys.readouterr().out
    assert "10/10" in shown
    assert "left of all: a minute" in shown


def test_the_last_part_says_its_own_only(capsys):
    progress = Progress(10, verbose=1)
    progress.begin("square")
    progress.add(fell=4, left=(125.0, 125.0))
    shown = capsys.readouterr().out
    assert "2:05" in shown
    assert "left of all" not in shown


def test_without_an_estimate_the_bar_is_keras_own(capsys):
    progress = Progress(10, verbose=1)
    progress.begin("natural")
    progress.add(stood=5)
    assert "s/example - natural: 1.0000" in capsys.readouterr().out
