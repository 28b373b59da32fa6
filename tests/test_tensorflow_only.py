"""What needs TensorFlow says so on another backend, before it does anything."""

import keras
import pytest

from keras_free_adv import export_for_litert, export_for_serving
from keras_free_adv.teaching import check_train, check_train_step
from tests.conftest import small_network

KERAS_FILE = r'Save the model as plain Keras.*model\.model\.save\("model\.keras"\).*'


@pytest.fixture(params=["jax", "torch"])
def backend(request, monkeypatch):
    """Keras says that it runs on another backend; nothing else is to be asked."""
    monkeypatch.setattr(keras.backend, "backend", lambda: request.param)
    return request.param


@pytest.mark.parametrize("export", [export_for_serving, export_for_litert])
def test_an_export_says_how_to_get_one(export, backend, tmp_path):
    said = f"`{export.__name__}` needs .*'tensorflow'.* Received: the backend "
    said += f"'{backend}'. {KERAS_FILE}KERAS_BACKEND=tensorflow"
    path = tmp_path / "model.tflite"
    with pytest.raises(RuntimeError, match=said) as raised:
        export(small_network(shape=(8, 8, 1)), path)
    assert ("model.export" in str(raised.value)) == (backend == "jax")
    assert not path.exists()


@pytest.mark.parametrize("check", [check_train, check_train_step])
def test_a_check_of_code_with_a_tape_says_where_it_runs(check, backend):
    def never_called(*given):
        raise AssertionError

    said = f"`{check.__name__}` needs .*GradientTape. Received: the backend '{backend}'"
    with pytest.raises(RuntimeError, match=f"{said}.*KERAS_BACKEND=tensorflow"):
        check(never_called)
