"""Who polls the folder of versions finds whole ones, whatever happens to the writer."""

import random
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import export_for_serving
from tests import forked
from tests.serving.artifacts import colour_images, colour_network

PROGRAM = """
import sys
from keras_free_adv import export_for_serving
from tests.serving.artifacts import colour_network
network = colour_network()
print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    print(export_for_serving(network, sys.argv[1]), flush=True)
"""


def publisher(folder, times):
    return forked.start("-c", PROGRAM, folder, times, errors=False)


def versions(folder):
    """As a server finds them: the children whose names are numbers."""
    return {int(p.name) for p in folder.glob("*") if p.name.isdigit()}


def check_is_whole(path):
    images, _ = colour_images(2)
    loaded = tf.saved_model.load(str(path))
    answers = loaded.signatures["serve_uint8"](images=tf.constant(images))
    np.testing.assert_allclose(tf.reduce_sum(answers["probabilities"], 1), 1, atol=1e-5)
    assert (path / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0
    assert (path / "assets" / "description.json").stat().st_size > 0


@pytest.mark.long
def test_a_publisher_killed_at_any_moment_leaves_whole_versions(tmp_path, request):
    """20 kills by hand, 2 in CI, between the first publication and the third."""
    kills = 20 if "long" in request.config.getoption("markexpr") else 2
    moments = random.Random(0)
    folder = tmp_path / "robust"
    seen = set()
    for _ in range(kills):
        process = publisher(folder, times=1000)
        assert process.stdout.readline() == "ready\n"
        there = versions(folder) if folder.exists() else set()
        end = None  # some moment after this process has published once
        while end is None or time.monotonic() < end:
            if end is None and folder.exists() and versions(folder) - there:
                end = time.monotonic() + moments.uniform(0, 4)
            for number in versions(folder) - seen:
                check_is_whole(folder / str(number))
                seen.add(number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for number in versions(folder) - seen:
            check_is_whole(folder / str(number))
            seen.add(number)
    assert len(seen) >= kills
    # What was half written goes with the next publication.
    path = export_for_serving(colour_network(), folder)
    assert path == str(folder / str(max(seen, default=0) + 1))
    assert {p.name for p in folder.iterdir()} == {str(n) for n in versions(folder)}
    assert versions(folder) == set(range(1, max(seen, default=0) + 2))


def test_two_publishers_at_once_make_two_versions(tmp_path):
    folder = tmp_path / "robust"
    processes = [publisher(folder, times=2) for _ in range(2)]
    said = [process.communicate()[0].split()[1:] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(path for each in said for path in each) == [
        str(folder / str(number)) for number in range(1, 5)
    ]
    for number in range(1, 5):
        check_is_whole(folder / str(number))
    assert len(list(folder.iterdir())) == 4


def test_a_version_is_never_replaced(tmp_path):
    network = colour_network()
    path = export_for_serving(network, tmp_path / "robust", version=7)
    assert path == str(tmp_path / "robust" / "7")
    with pytest.raises(FileExistsError, match="`version` must not be there yet"):
        export_for_serving(network, tmp_path / "robust", version=7)
    assert export_for_serving(network, tmp_path / "robust") == path[:-1] + "8"
