"""What a model's final operation is, as each backend finds it."""

from typing import Any, NamedTuple

SOFTMAX = "Softmax"
SIGMOID = "Sigmoid"
AFFINE = "Affine"


class ModelOutputs(NamedTuple):
    """What a model returns, and where it comes from.

    Attributes:
        values: `[B, units]`.
        operation: the type of the final operation: "Softmax", "Sigmoid", "Affine" (a
            layer without an activation: its outputs have no bounds), another one's
            name, or None where it cannot be seen.
        before: the input of a final softmax or sigmoid, `[B, units]`; else None.
    """

    values: Any
    operation: str | None
    before: Any
