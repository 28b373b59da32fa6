"""The state of callbacks, as plain values and arrays."""

from typing import Any

import keras
import numpy as np

# Attributes in which Keras' callbacks, and ours, keep their state.
_STATE = (
    "averaged_statistics",
    "best",
    "best_epoch",
    "best_weights",
    "collapsed_epoch",
    "cooldown_counter",
    "epochs_since_last_save",
    "last_accuracy",
    "stopped_epoch",
    "wait",
)
_ARRAY, _ARRAYS = "keras_free_adv: array", "keras_free_adv: arrays"


def callback_state(
    callbacks: list[keras.callbacks.Callback],
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The state of each callback: plain values, and arrays by name."""
    states: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for position, callback in enumerate(callbacks):
        values: dict[str, Any] = {}
        for name in _STATE:
            if not hasattr(callback, name):
                continue
            value = getattr(callback, name)
            if isinstance(value, np.ndarray):
                arrays[f"{position}.{name}"] = value
                values[name] = {_ARRAY: True}
            elif isinstance(value, list) and all(map(_is_array, value)):
                for number, array in enumerate(value):
                    arrays[f"{position}.{name}.{number}"] = np.asarray(array)
                values[name] = {_ARRAYS: len(value)}
            elif fits_json(plain(value)):
                values[name] = plain(value)
        states.append({"class": type(callback).__name__, "values": values})
    return states, arrays


def restore_callback_state(
    callbacks: list[keras.callbacks.Callback],
    states: list[dict[str, Any]],
    arrays: dict[str, np.ndarray],
) -> None:
    """Sets the state of each callback to what `callback_state` returned."""
    for position, (callback, state) in enumerate(zip(callbacks, states, strict=False)):
        if type(callback).__name__ != state["class"]:
            continue  # the list of callbacks was changed
        for name, value in state["values"].items():
            if isinstance(value, dict) and _ARRAY in value:
                value = arrays[f"{position}.{name}"]
            elif isinstance(value, dict) and _ARRAYS in value:
                value = [
                    arrays[f"{position}.{name}.{number}"]
                    for number in range(value[_ARRAYS])
                ]
            setattr(callback, name, value)


def model_checkpoints(
    callbacks: list[keras.callbacks.Callback],
) -> dict[str, keras.callbacks.ModelCheckpoint]:
    """The ModelCheckpoints in a list of callbacks, by index."""
    return {
        str(index): callback
        for index, callback in enumerate(callbacks)
        if isinstance(callback, keras.callbacks.ModelCheckpoint)
    }


def plain(value: Any) -> Any:
    """Turns arrays and tensors in `value` into what JSON holds exactly."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if keras.ops.is_tensor(value):
        value = keras.ops.convert_to_numpy(value)
    return value.tolist() if _is_array(value) else value


def fits_json(value: Any) -> bool:
    """Whether JSON can hold `value`; another library's callback may have anything."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and fits_json(v) for k, v in value.items())
    if isinstance(value, list):
        return all(map(fits_json, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic))
