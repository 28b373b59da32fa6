"""Many rounds of training, saving, loading and attacking in one process."""

import re

import pytest

from tests import forked


@pytest.mark.long
def test_rounds_warn_of_nothing(request):
    """2,000 rounds by hand, 6 in CI; the memory is in docs/reliability.md."""
    everything = "long" in request.config.getoption("markexpr")
    rounds = 2000 if everything else 6
    ended = forked.python("-m", "tests.reliability.soak", rounds)
    assert ended.returncode == 0, ended.stderr
    slope = re.search(r"slope: (-?[\d.]+) KiB a round", ended.stdout)
    print(ended.stdout)
    # Plain Keras' own save_weights, load_weights and fit leave 356 KiB a round.
    assert not everything or float(slope[1]) < 1.2 * 356
