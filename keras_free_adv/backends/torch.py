"""What differs on PyTorch: everything runs at once, and gradients are asked for."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
from keras import tree

from keras_free_adv import keras_internals
from keras_free_adv.backends.final_operation import ModelOutputs

NAME = "torch"


def value_and_gradient(
    objective: Callable[[Any], tuple[Any, ...]], images: Any
) -> tuple[tuple[Any, ...], Any]:
    """As on TensorFlow; the model's parameters get no gradient."""
    values, back = pullback(objective, images, once=True)
    return values, back(torch.ones_like(values[0]))


def pullback(
    function: Callable[[Any], tuple[Any, ...]], images: Any, *, once: bool = False
) -> tuple[tuple[Any, ...], Callable[[Any], Any]]:
    """As on TensorFlow. `once` says that one backward pass is enough."""
    with torch.enable_grad():
        leaf = images.detach().clone().requires_grad_(True)
        first, *rest = function(leaf)

    def back(weights: Any) -> Any:
        if not first.requires_grad:
            return None
        (gradient,) = torch.autograd.grad(
            first, leaf, weights, retain_graph=not once, allow_unused=True
        )
        return gradient

    return tuple(_detached([first, *rest])), back


def while_loop(condition: Callable, body: Callable, state: Any) -> Any:
    """As on TensorFlow, step by step."""
    while condition(*state):
        state = body(*state)
    return state


def on_rows(where: Any, function: Callable, arguments: Any, results: Any) -> Any:
    """As on TensorFlow."""
    if not where.any():
        return results
    new = function(*tree.map_structure(lambda a: a[where], arguments))

    def replaced(old: Any, new: Any) -> Any:
        old = old.clone()
        old[where] = new
        return old

    return tree.map_structure(replaced, results, new)


def element_by_element(function: Callable) -> Callable:
    """As on TensorFlow; PyTorch runs it as it is."""
    return function


def compiled(
    function: Callable, model_of: Callable[[], Any], *, any_size: bool = True
) -> Callable:
    """As on TensorFlow; PyTorch runs it as it is."""
    del model_of, any_size

    def run(*arguments: Any) -> Any:
        with torch.no_grad():
            arguments = tree.map_structure(keras.ops.convert_to_tensor, arguments)
            return function(*arguments)

    return run


def is_symbolic(tensor: Any) -> bool:
    """Tensors have values."""
    del tensor
    return False


def look_through(model: keras.Model, call: Callable[[], Any]) -> ModelOutputs:
    """As on TensorFlow, from the model's own activations."""
    return keras_internals.outputs_of_final_activation(model, call)


def outside_graphs() -> contextlib.AbstractContextManager:
    """As on TensorFlow."""
    return contextlib.nullcontext()


def replica_number() -> int:
    """There is one replica."""
    return 0


# What a model raises that does not take minibatches of this size.
WRONG_SIZE = (ValueError, TypeError, RuntimeError)


def rounds_float32() -> bool:
    """Whether products of float32 are computed with fewer digits, as TensorFloat-32."""
    tensor_float = (
        torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    )
    return tensor_float and torch.cuda.is_available()


def deterministic() -> bool:
    """Whether `torch.use_deterministic_algorithms(True)` was called."""
    return torch.are_deterministic_algorithms_enabled()


def make_deterministic() -> None:
    """Has every operation give the same bits in every run; slower on a GPU."""
    torch.use_deterministic_algorithms(True)


def versions() -> dict[str, str]:
    """The versions of the frameworks that compute."""
    return {"torch": torch.__version__}


def _detached(values: Any) -> Any:
    return tree.map_structure(
        lambda value: value.detach() if torch.is_tensor(value) else value, values
    )


class ReplicaVariable:
    """A number or an array that training keeps beside the weights.

    Keras does not track it: it is not counted, saved or served with the model.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str, strategy: Any) -> None:
        del strategy
        self._variable = keras.Variable(
            "zeros", shape=shape, dtype=dtype, trainable=False, autocast=False
        )

    def read(self, rows: Any = None) -> Any:
        """The value, or its first rows, in a training step."""
        value = self._variable.value.detach()
        return (value if rows is None else value[:rows]).clone()

    def write(self, value: Any, rows: Any = None) -> None:
        """Sets it, or its first rows, in a training step."""
        whole = self._variable.value.detach()
        whole[... if rows is None else slice(rows)] = value

    def values(self) -> np.ndarray:
        """The value of each replica, `[replicas, ...]`, between steps."""
        return keras.ops.convert_to_numpy(self._variable.value).copy()[None]

    def set(self, values: np.ndarray) -> None:
        """Sets the value of each replica, between steps."""
        self._variable.assign(values[0])


class LogsOfWorkers:
    """Keras' own steps: there is one worker."""


class Trainer:
    """How a step of training is called on PyTorch, and its gradients."""

    optimizer: Any
    trainable_weights: list[Any]
    _passing_over_draws = True  # Keras draws it before the update can be passed over

    @torch.compiler.disable  # it asks for gradients, which `jit_compile` cannot trace
    def train_step(self, data: Any) -> dict[str, Any]:
        """Keras calls it for each minibatch."""
        return self.update(data)  # type: ignore[attr-defined]

    def _gradients(
        self, loss_at: Callable[[Any], tuple[Any, Any]], delta: Any = None
    ) -> tuple[Any, Any, list[Any], Any]:
        """As on TensorFlow."""
        self.zero_grad()  # type: ignore[attr-defined]
        if delta is not None:
            delta = delta.detach().clone().requires_grad_(True)
        loss, y_pred = loss_at(delta)
        self.optimizer.scale_loss(loss).sum().backward()
        g_theta = [weight.value.grad for weight in self.trainable_weights]
        g_delta = None if delta is None else delta.grad
        return *_detached([loss, y_pred]), g_theta, g_delta

    def _apply(self, gradients: list[Any], weights: list[Any]) -> None:
        """One step of the optimizer."""
        with torch.no_grad():
            self.optimizer.apply(gradients, weights)
