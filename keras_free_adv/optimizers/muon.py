"""Muon for convolutions: steps in which all directions are equally long."""

from typing import Any

import keras
from keras import ops

from keras_free_adv import validation

# The quintic polynomial of Jordan et al.: a few steps take singular values to about 1,
# not exactly, and need no decomposition.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_TINY = 1e-20  # its square root is a normal float32


@keras.saving.register_keras_serializable("keras_free_adv")
class Muon(keras.optimizers.Optimizer):
    """Muon for kernels of 2D convolutions, SGD with Nesterov momentum for the rest.

    The momentum of a kernel, as a matrix of filters, is orthogonalized: its singular
    values become about equal, so that an update learns in every direction, not only in
    the few that the gradients share. In a short training that is worth much (see
    docs/results.md). `keras.optimizers.Muon` is for matrices, and makes the steps of
    Adam for convolutions.

    A kernel keeps its norm: batch norm, which should follow each convolution, makes
    its scale meaningless. So the learning rate is the share of the kernel that an
    update turns, whatever the layer, and weight decay is of no use. One that is zero
    stays zero.

    Reference: Jordan et al., "Muon: An optimizer for hidden layers in neural networks"
    (2024).

    Args:
        learning_rate: of the kernels, as a share of their norm: a number, or a
            schedule; let it fall to 0.
        momentum: of all variables.
        sgd_lr_ratio: the learning rate of the other variables, as a multiple.
        ns_steps: Newton-Schulz steps; 3 take singular values of 2% of the matrix' norm
            and more to between 0.68 and 1.21.
        ns_dtype: dtype of these steps: "float32", or "bfloat16" where that is faster.
        name: name of the optimizer.
        **kwargs: see `keras.optimizers.Optimizer`; no `weight_decay`.

    Raises:
        TypeError, ValueError: an argument is out of its range.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(16, 3),
    ...                             keras.layers.BatchNormalization(),
    ...                             keras.layers.Flatten(), keras.layers.Dense(10)])
    >>> model = FreeAdversarialModel(network, epsilon=0.1)
    >>> model.compile(Muon(0.02), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: Any = 0.02,
        momentum: float = 0.9,
        *,
        sgd_lr_ratio: float = 5.0,
        ns_steps: int = 3,
        ns_dtype: str = "float32",
        name: str = "muon",
        **kwargs: Any,
    ) -> None:
        if kwargs.get("weight_decay") is not None:
            raise ValueError(
                "Argument `weight_decay` must be None: a kernel keeps its norm. "
                f"Received: weight_decay={kwargs['weight_decay']}. Leave it out."
            )
        super().__init__(learning_rate, name=name, **kwargs)
        self.momentum = validation.finite_number("momentum", momentum)
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(
                "Argument `momentum` must be at least 0 and below 1. Received: "
                f"momentum={momentum}."
            )
        self.sgd_lr_ratio = validation.positive_number("sgd_lr_ratio", sgd_lr_ratio)
        self.ns_steps = validation.positive_integer("ns_steps", ns_steps)
        self.ns_dtype = validation.one_of("ns_dtype", ns_dtype, ("float32", "bfloat16"))

    def build(self, variables: Any) -> None:
        """Makes a momentum for each variable."""
        if self.built:
            return
        super().build(variables)
        self._momentums = [
            self.add_variable_from_reference(variable, name="momentum")
            for variable in variables
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One update of one variable."""
        momentum = self._momentums[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        rate = ops.cast(learning_rate, variable.dtype)
        self.assign(momentum, self.momentum * momentum + gradient)
        step = gradient + self.momentum * momentum  # as Nesterov: one ahead
        if len(variable.shape) == 4:
            self.assign(variable, self._turned(ops.add(variable, 0), step, rate))
        else:
            self.assign_sub(variable, rate * self.sgd_lr_ratio * step)

    def _turned(self, kernel: Any, step: Any, share: Any) -> Any:
        """The kernel, `[height, width, C, filters]`, turned away from a step."""
        rows = ops.reshape(step, (-1, step.shape[-1]))
        rows = orthogonalized(ops.cast(rows, self.ns_dtype), self.ns_steps)
        direction = ops.reshape(ops.cast(rows, kernel.dtype), step.shape)
        norm = _norm(kernel)
        turned = kernel - share * norm / _norm(direction) * direction
        return turned * (norm / _norm(turned))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "sgd_lr_ratio": self.sgd_lr_ratio,
            "ns_steps": self.ns_steps,
            "ns_dtype": self.ns_dtype,
        }


def orthogonalized(matrix: Any, steps: int) -> Any:
    """About U V^T, for the singular value decomposition U S V^T of a matrix.

    Args:
        matrix: `[n, m]`.
        steps: of Newton-Schulz.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix / ops.cast(_norm(ops.cast(matrix, "float32")), matrix.dtype)
    wide = matrix.shape[0] < matrix.shape[1]
    if wide:
        x = ops.transpose(x)
    for _ in range(steps):
        gram = ops.matmul(ops.transpose(x), x)
        x = a * x + ops.matmul(x, b * gram + c * ops.matmul(gram, gram))
    return ops.transpose(x) if wide else x


def _norm(values: Any) -> Any:
    """The Euclidean norm; of zeros not zero, so that it can be divided by."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(values)), _TINY))
