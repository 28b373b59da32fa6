"""What differs on JAX: pure functions, to which a model's variables are arguments."""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np
from jax import numpy as jnp
from jax.extend.core import Literal

from keras_free_adv import keras_internals
from keras_free_adv.backends.final_operation import ModelOutputs

NAME = "jax"


class _Scope:
    """Variables that are arguments of the function being traced, and their values."""

    def __init__(self, variables: list[Any], values: list[Any]) -> None:
        self.variables = variables
        self._mapping = list(zip(variables, values, strict=True))
        self._given: list[Any] = []

    def __enter__(self) -> "_Scope":
        self._stateless = keras.StatelessScope(self._mapping, collect_losses=True)
        self._given = self.values()
        self._stateless.__enter__()
        _scopes.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        _scopes.pop()
        self._stateless.__exit__(*error)

    def values(self) -> list[Any]:
        """The values now."""
        return [self._stateless.get_current_value(v) for v in self.variables]

    def updates(self) -> dict[int, Any]:
        """The values that were assigned within, by the numbers of their variables."""
        pairs = enumerate(zip(self._given, self.values(), strict=True))
        return {number: now for number, (old, now) in pairs if now is not old}


# The innermost is last.
_scopes: list[_Scope] = []


def _as_pure(function: Callable, replaced: list[Any] | None = None) -> Callable:
    """The function with its assignments to variables as a second result.

    Differentiation and loops trace their function by itself. What it assigns must
    leave it as a result, or it would be a leaked tracer.

    Args:
        function: takes any arguments.
        replaced: variables whose values are the first argument.

    Returns:
        A function that returns the result, and the updates for `_assign`.
    """
    outer = _scopes[-1] if _scopes else _Scope([], [])
    before = outer.values() if _scopes else []
    numbers = {id(variable): n for n, variable in enumerate(outer.variables)}

    def pure(*arguments: Any) -> tuple[Any, dict[int, Any]]:
        values = list(before)
        if replaced is not None:
            given, *arguments = arguments  # type: ignore[assignment]
            for variable, value in zip(replaced, given, strict=True):
                values[numbers[id(variable)]] = value
        with _Scope(outer.variables, values) as scope:
            return function(*arguments), scope.updates()

    return pure


def _assign(updates: dict[int, Any]) -> None:
    for number, value in updates.items():
        _scopes[-1].variables[number].assign(value)


def value_and_gradient(
    objective: Callable[[Any], tuple[Any, ...]], images: Any
) -> tuple[tuple[Any, ...], Any]:
    """As on TensorFlow."""
    pure = _as_pure(objective)

    def loss_of(images: Any) -> tuple[Any, Any]:
        values, updates = pure(images)
        return jnp.sum(values[0]), (values, updates)

    gradient, (values, updates) = jax.grad(loss_of, has_aux=True)(images)
    _assign(updates)
    if not _is_differentiable(lambda images: loss_of(images)[0], images, gradient):
        return values, None
    return values, gradient


def _is_differentiable(function: Callable, images: Any, gradient: Any) -> bool:
    """Whether a scalar depends on the images by operations that have a gradient.

    JAX gives zeros where it does not, as behind argmax or rounding. Here a tangent of
    the images is followed through the function: it must reach the result.
    """
    if not is_symbolic(gradient) and gradient.any():
        return True  # run eagerly, the function need not be traced as well
    tangent = jnp.zeros_like(images)
    traced = jax.make_jaxpr(lambda t: jax.jvp(function, (images,), (t,))[1])(tangent)
    reached = set(traced.jaxpr.invars)

    def reaches(variables: Any) -> bool:
        return any(not isinstance(v, Literal) and v in reached for v in variables)

    for equation in traced.jaxpr.eqns:
        if reaches(equation.invars):
            reached.update(equation.outvars)
    return reaches(traced.jaxpr.outvars)


def pullback(
    function: Callable[[Any], tuple[Any, ...]], images: Any
) -> tuple[tuple[Any, ...], Callable[[Any], Any]]:
    """As on TensorFlow."""
    pure = _as_pure(function)

    def first_of(images: Any) -> tuple[Any, Any]:
        values, updates = pure(images)
        return values[0], (values, updates)

    _, back, (values, updates) = jax.vjp(first_of, images, has_aux=True)
    _assign(updates)
    return values, lambda weights: back(weights)[0]


def while_loop(condition: Callable, body: Callable, state: Any) -> Any:
    """As on TensorFlow. Variables that the body assigns are carried along."""
    pure = _as_pure(body)
    changed: list[int] = []

    def find_changed(state: Any) -> Any:
        result, updates = pure(*state)
        changed.extend(updates)
        return result

    jax.eval_shape(find_changed, state)
    variables = [_scopes[-1].variables[number] for number in changed]
    pure = _as_pure(body, replaced=variables)

    def step(carried: Any) -> Any:
        values, state = carried
        state, updates = pure(values, *state)
        return [updates.get(n, v) for n, v in zip(changed, values, strict=True)], state

    state = jax.tree.map(jnp.asarray, state)
    values, state = jax.lax.while_loop(
        lambda carried: condition(*carried[1]),
        step,
        ([variable.value for variable in variables], state),
    )
    _assign(dict(zip(changed, values, strict=True)))
    return state


def on_rows(where: Any, function: Callable, arguments: Any, results: Any) -> Any:
    """As on TensorFlow; shapes are fixed, so that it computes all rows or none."""
    anew = _as_pure(function)

    def all_rows() -> Any:
        computed, _ = anew(*arguments)
        return jax.tree.map(
            lambda old, new: jnp.where(
                where.reshape(-1, *[1] * (old.ndim - 1)), new, old
            ),
            results,
            computed,
        )

    return jax.lax.cond(jnp.any(where), all_rows, lambda: results)


def element_by_element(function: Callable) -> Callable:
    """As on TensorFlow; made once for each shape."""
    return jax.jit(function)


def compiled(
    function: Callable, model_of: Callable[[], Any], *, any_size: bool = True
) -> "_Jitted":
    """As on TensorFlow. Examples are filled up to a few sizes, each compiled once."""
    return _Jitted(function, model_of, any_size)


class _Jitted:
    """A jitted function, to which the model's variables are arguments."""

    def __init__(
        self, function: Callable, model_of: Callable[[], Any], any_size: bool
    ) -> None:
        self._model_of = model_of
        self._any_size = any_size
        self._largest = 0

        def pure(values: list[Any], arguments: Any) -> tuple[Any, dict[int, Any]]:
            with _Scope(model_of().variables, values) as scope:
                return function(*arguments), scope.updates()

        self._pure = jax.jit(pure)

    def __call__(self, *arguments: Any) -> Any:
        variables = self._model_of().variables
        arguments = jax.tree.map(keras.ops.convert_to_tensor, arguments)
        rows = next((len(a) for a in jax.tree.leaves(arguments) if a.ndim), 0)
        self._largest = max(self._largest, rows)
        size = _padded_size(rows, self._largest) if self._any_size else rows
        padded = jax.tree.map(lambda a: _placed(_padded(a, size)), arguments)
        result, updates = self._pure([v.value for v in variables], padded)
        for number, value in updates.items():
            variables[number].assign(value)
        if size == rows:
            return result
        return jax.tree.map(lambda a: a[:rows] if a.ndim else a, result)

    def trace(self, *arguments: Any) -> None:
        """Traces the function, and does not run it."""
        arguments = jax.tree.map(keras.ops.convert_to_tensor, arguments)
        values = [variable.value for variable in self._model_of().variables]
        jax.eval_shape(self._pure, values, arguments)


def _padded_size(rows: int, largest: int) -> int:
    """8, 32, 128, ... or the largest so far: each size is compiled once."""
    size = 8
    while size < rows:
        size *= 4
    return min(size, largest)


def _padded(array: Any, size: int) -> Any:
    """Rows `[size, ...]`, the last one repeated: it cannot be worse than real ones."""
    if not array.ndim or len(array) == size:
        return array
    last = jnp.broadcast_to(array[-1:], (size - len(array), *array.shape[1:]))
    return jnp.concatenate([array, last])


def _placed(array: Any) -> Any:
    """The array on the devices of `keras.distribution`, each with a part of the rows.

    Rows that the devices cannot share evenly are on each of them.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or is_symbolic(array):
        return array
    return jax.device_put(array, keras_internals.sharding_of(array.shape, distribution))


def is_symbolic(tensor: Any) -> bool:
    """Whether it is a tracer, without values."""
    return isinstance(tensor, jax.core.Tracer)


def look_through(model: keras.Model, call: Callable[[], Any]) -> ModelOutputs:
    """As on TensorFlow, from the model's own activations."""
    return keras_internals.outputs_of_final_activation(model, call)


def outside_graphs() -> contextlib.AbstractContextManager:
    """As on TensorFlow."""
    # An empty scope within one whose variables are tracers shows their own arrays.
    return keras.StatelessScope() if _scopes else contextlib.nullcontext()


def replica_number() -> int:
    """Arrays are global on JAX: there is one replica."""
    return 0


# What a model raises that does not take minibatches of this size.
WRONG_SIZE = (ValueError, TypeError)


def rounds_float32() -> bool:
    """Whether products of float32 are computed with fewer digits, as TensorFloat-32."""
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return jax.default_backend() != "cpu" and precision not in ("highest", "float32")


def deterministic() -> bool:
    """Whether XLA was told to use deterministic kernels; on CPUs it does by itself."""
    flag = "--xla_gpu_deterministic_ops=true" in os.environ.get("XLA_FLAGS", "")
    return flag or jax.default_backend() == "cpu"


def make_deterministic() -> None:
    """Has every operation give the same bits in every run, which it does on CPUs.

    Raises:
        RuntimeError: it does not, and cannot be told so any more.
    """
    if not deterministic():
        raise RuntimeError(
            "JAX is told before it starts: set XLA_FLAGS=--xla_gpu_deterministic_ops="
            "true in the environment."
        )


def versions() -> dict[str, str]:
    """The versions of the frameworks that compute."""
    return {"jax": jax.__version__}


class ReplicaVariable:
    """A number or an array that training keeps beside the weights.

    Keras does not track it: it is not counted, saved or served with the model. A step
    on JAX is pure, so `Trainer` carries its variable as one more state.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str, strategy: Any) -> None:
        del strategy
        self.variable = keras.Variable(
            "zeros", shape=shape, dtype=dtype, trainable=False, autocast=False
        )

    def read(self, rows: Any = None) -> Any:
        """The value, or its first rows, in a training step."""
        value = self.variable.value
        return value if rows is None else value[:rows]

    def write(self, value: Any, rows: Any = None) -> None:
        """Sets it, or its first rows, in a training step."""
        if rows is not None:
            value = self.variable.value.at[:rows].set(value)
        self.variable.assign(value)

    def values(self) -> np.ndarray:
        """The value of each replica, `[replicas, ...]`, between steps."""
        return np.asarray(self.variable.value)[None]

    def set(self, values: np.ndarray) -> None:
        """Sets the value of each replica, between steps."""
        self.variable.assign(values[0])


class LogsOfWorkers:
    """Keras' own steps: there is one worker."""


def _on_all_devices(name: str) -> Callable:
    """Keras' method, which also takes minibatches that devices cannot share evenly."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        with keras_internals.uneven_minibatches():
            return getattr(super(Trainer, self), name)(*args, **kwargs)

    return method


class Trainer:
    """How a step of training is called on JAX, and its gradients."""

    optimizer: Any
    trainable_weights: list[Any]
    trainable_variables: list[Any]
    metrics_variables: list[Any]

    fit = _on_all_devices("fit")
    evaluate = _on_all_devices("evaluate")
    predict = _on_all_devices("predict")
    train_on_batch = _on_all_devices("train_on_batch")
    test_on_batch = _on_all_devices("test_on_batch")
    predict_on_batch = _on_all_devices("predict_on_batch")

    @property
    def non_trainable_variables(self) -> list[Any]:
        """Keras' own, and what training keeps beside the weights."""
        kept = [one.variable for one in self._kept_variables()]  # type: ignore[attr-defined]
        return [*super().non_trainable_variables, *kept]  # type: ignore[misc]

    def train_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
        """Keras jits it: the state goes in as arrays, and comes out."""
        groups = (
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables,
            self.metrics_variables,
        )
        variables = [variable for group in groups for variable in group]
        with _Scope(variables, [value for group in state for value in group]) as scope:
            logs = self.update(data)  # type: ignore[attr-defined]
            values = iter(scope.values())
        return logs, tuple([next(values) for _ in group] for group in groups)

    def _gradients(
        self, loss_at: Callable[[Any], tuple[Any, Any]], delta: Any = None
    ) -> tuple[Any, Any, list[Any], Any]:
        """As on TensorFlow."""
        weights = self.trainable_variables
        pure = _as_pure(loss_at, replaced=weights)

        def scaled_loss(values: list[Any], delta: Any) -> tuple[Any, Any]:
            (loss, y_pred), updates = pure(values, delta)
            return jnp.sum(self.optimizer.scale_loss(loss)), (loss, y_pred, updates)

        values = [weight.value for weight in weights]
        (g_theta, g_delta), (loss, y_pred, updates) = jax.grad(
            scaled_loss, argnums=(0, 1), has_aux=True
        )(values, delta)
        _assign(updates)
        if delta is not None:
            of_delta = functools.partial(scaled_loss, values)
            if not _is_differentiable(lambda d: of_delta(d)[0], delta, g_delta):
                g_delta = None
        return loss, y_pred, g_theta, g_delta

    def _apply(self, gradients: list[Any], weights: list[Any]) -> None:
        """One step of the optimizer."""
        variables = self.optimizer.variables
        new_weights, new_variables = self.optimizer.stateless_apply(
            [variable.value for variable in variables],
            gradients,
            [weight.value for weight in weights],
        )
        for one, value in zip(
            [*weights, *variables], [*new_weights, *new_variables], strict=True
        ):
            one.assign(value)

    def _counted(self, train_function: Callable, position: Any) -> Callable:
        """As `StreamTraining`'s, with the state that goes in and comes out."""

        def counted(state: Any, iterator: Any) -> tuple[dict[str, Any], Any]:
            if position.passes_over(self):
                return {}, state
            try:
                logs, state = train_function(state, iterator)
            except BaseException:
                keras_internals.give_back_state(self, state)  # type: ignore[arg-type]
                raise
            position.count(self)
            return logs, state

        return counted
