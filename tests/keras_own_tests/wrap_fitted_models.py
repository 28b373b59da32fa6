"""A pytest plugin: Keras' own tests, each model that they fit wrapped.

    python -m pytest -p tests.keras_own_tests.wrap_fitted_models --outcomes FILE
        [--wrap] [--only FILE] KERAS_TEST_FILE ...

writes to FILE, as JSON, for each test its outcome ("passed", "failed" or "skipped"),
whether it trained a model, and the last line of the error. Without `--wrap` the models
stay plain: a test that fails so says nothing of the wrapper.
"""

import functools
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import keras

# So small that float32 does not see it in inputs of size 1.
EPSILON = 1e-9
# Keras' tests train on any numbers.
VALUE_RANGE = (-1e30, 1e30)

# Where a test asks the plain model for what only the one trained has. `compile` and
# saving stay the plain model's.
TRAINS = ("fit", "train_on_batch")
AFTERWARDS = ("evaluate", "predict", "test_on_batch", "predict_on_batch", "export")


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--outcomes", required=True)
    parser.addoption("--wrap", action="store_true")
    parser.addoption("--only", help="a JSON list of test ids")


def pytest_configure(config: Any) -> None:
    config.addinivalue_line("markers", "requires_trainable_backend: Keras' own")
    config.addinivalue_line("markers", "multi_device: Keras' own")
    if importlib.util.find_spec("jax") is None:
        # trainer_test.py imports it for tests that TensorFlow skips.
        sys.modules["jax"] = mock.MagicMock(name="jax")
    config.pluginmanager.register(_Recorder(config))


class _Recorder:
    """Patches Keras' trainer, and keeps each test's outcome."""

    def __init__(self, config: Any) -> None:
        self._path = Path(config.getoption("--outcomes"))
        only = config.getoption("--only")
        self._only = None if only is None else set(json.loads(Path(only).read_text()))
        self._outcomes: dict[str, dict[str, Any]] = {}
        self._trains = False
        self._delegating: set[int] = set()
        self._wrappers: dict[int, tuple[Any, Any, Any]] = {}
        self._patch(config.getoption("--wrap"))

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        if self._only is not None:
            items[:] = [item for item in items if _id(item.nodeid) in self._only]

    def pytest_runtest_setup(self, item: Any) -> None:
        self._trains = False
        self._wrappers.clear()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.outcome == "passed" and report.when != "call":
            return
        error = str(report.longrepr.reprcrash.message) if report.failed else ""
        self._outcomes[_id(report.nodeid)] = {
            "outcome": report.outcome,
            "trains": self._trains,
            "error": error.strip().partition("\n")[0][:200],
        }

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(self._outcomes, indent=1))

    def _patch(self, wrap: bool) -> None:
        trainer = keras.Model.__mro__[1]  # the backend's, whose methods models inherit
        for name in (*TRAINS, *AFTERWARDS):
            owner = keras.Model if name == "export" else trainer
            self._patch_method(owner, name, wrap)

    def _patch_method(self, owner: type, name: str, wrap: bool) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def method(model: Any, *args: Any, **kwargs: Any) -> Any:
            self._trains |= name in TRAINS
            if not wrap or _is_wrapper(model) or id(model) in self._delegating:
                return original(model, *args, **kwargs)
            wrapper = self._wrapper_of(model, make=name in TRAINS)
            if wrapper is None:
                return original(model, *args, **kwargs)
            self._delegating.add(id(model))  # `wrapper.export` exports the inner model
            try:
                return getattr(wrapper, name)(*args, **kwargs)
            finally:
                self._delegating.discard(id(model))
                _give_back(wrapper, model)

        setattr(owner, name, method)

    def _wrapper_of(self, model: Any, make: bool) -> Any:
        """The adversarial model around `model`, or None if it was never trained.

        A model that is compiled anew gets a new one.
        """
        from keras_free_adv import FreeAdversarialModel

        compiled = getattr(model, "_compile_config", None)
        _, compiled_then, wrapper = self._wrappers.get(id(model), (None, None, None))
        if compiled is None or (wrapper is None and not make):
            return None  # Keras says what is wrong
        if compiled is not compiled_then:
            _make_a_model(model)
            with model.distribute_strategy.scope():
                wrapper = FreeAdversarialModel(
                    model, EPSILON, replays=1, value_range=VALUE_RANGE
                )
                wrapper.compile(**_settings(model))
            # Not on the model, where Keras would save it with the weights.
            self._wrappers[id(model)] = model, compiled, wrapper
        return wrapper


def _id(nodeid: str) -> str:
    """A test's id from the folder keras/src on."""
    return nodeid.rpartition("keras/src/")[2]


def _is_wrapper(model: Any) -> bool:
    from keras_free_adv import FreeAdversarialModel

    return isinstance(model, FreeAdversarialModel)


def _settings(model: Any) -> dict[str, Any]:
    """The arguments that `model` was compiled with."""
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    return {
        **model._compile_config.config,
        "optimizer": model.optimizer,
        "auto_scale_loss": scaled,
    }


def _give_back(wrapper: Any, model: Any) -> None:
    """Puts on the plain model what Keras would have left there."""
    for name in ("history", "stop_training", "stop_evaluating", "stop_predicting"):
        if hasattr(wrapper, name):
            vars(model)[name] = getattr(wrapper, name)


def _make_a_model(trainer: Any) -> None:
    """Makes a `keras.Model` of a layer with a trainer, as some tests have them."""
    if isinstance(trainer, keras.Model):
        return
    kind = type(trainer)
    own = {
        name: value
        for base in reversed(kind.__mro__)
        if base not in keras.Model.__mro__
        for name, value in vars(base).items()
        if name not in ("__dict__", "__weakref__")
    }
    object.__setattr__(
        trainer, "__class__", type(kind.__name__, (kind, keras.Model), own)
    )
