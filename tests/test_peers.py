"""The PyTorch networks that peers attack compute what the Keras models do."""

import sys
from pathlib import Path

import numpy as np
import pytest

from keras_free_adv import zoo
from tests.conftest import outputs_of

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

NETWORKS = {
    "preact_resnet18": lambda: zoo.preact_resnet18(width=4),
    "compact_resnet": lambda: zoo.compact_resnet(activation="silu"),
    "small_cnn": lambda: zoo.small_cnn(classes=10, input_shape=(32, 32, 3)),
}


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("name", NETWORKS)
def test_the_twin_of_a_network_has_its_logits(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from comparison.export import write_export
    from peers.twin import load_twin

    model = NETWORKS[name]()
    draw = np.random.default_rng(0)
    for layer in model.layers:  # statistics as a training leaves them
        if "BatchNormalization" in type(layer).__name__:
            layer.set_weights(
                [draw.uniform(0.5, 2.0, w.shape) for w in layer.get_weights()]
            )
    images = draw.uniform(size=(3, 32, 32, 3)).astype("float32")
    write_export(tmp_path / "export.npz", model, images, np.arange(3))
    for channels_last in (False, True):
        twin = load_twin(str(tmp_path / "export.npz"), channels_last)
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        expected = outputs_of(model, images)
        np.testing.assert_allclose(twin(pixels).numpy(), expected, atol=1e-4, rtol=1e-4)
    for module in [
        m for m in sys.modules if m.split(".")[0] in ("comparison", "peers")
    ]:
        del sys.modules[module]
