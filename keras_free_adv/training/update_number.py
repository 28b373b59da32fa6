"""The number of the update that is being made, for the compiled training step."""

from typing import Any

import numpy as np

from keras_free_adv import backends


class UpdateNumber:
    """A count that the compiled training step reads and advances.

    `StreamPosition.update` only moves between executions, and an execution makes
    `steps_per_execution` updates. `optimizer.iterations` does not serve either: it
    stands still while gradients accumulate, and begins anew at `compile`.
    """

    def __init__(self) -> None:
        self.variable: backends.ReplicaVariable | None = None

    def create(self, strategy: Any) -> None:
        """Makes the variable, before a training step is compiled with it."""
        if self.variable is None:
            self.variable = backends.ReplicaVariable((), "int32", strategy)

    def set(self, number: int) -> None:
        """Sets it between executions."""
        if self.variable is not None:
            self.variable.set(np.full_like(self.variable.values(), number))

    def read(self) -> Any:
        """The number of this update, counted from zero; an integer scalar."""
        return self.variable.read()  # type: ignore[union-attr]

    def advance(self) -> None:
        """Adds one."""
        self.variable.write(self.read() + 1)  # type: ignore[union-attr]
