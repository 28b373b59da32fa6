"""What an attack maximizes: one number an example, from logits."""

from typing import Any

from keras import ops


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Cross-entropy of the true class, `[B]`, from logits `[B, C]`."""
    true, largest_other = _true_and_largest_other(labels, logits)
    del largest_other
    return ops.logsumexp(logits, axis=-1) - true


def cw_margin(labels: Any, logits: Any) -> Any:
    """The Carlini-Wagner margin -max(z_y - max_{j != y} z_j, 0), `[B]`.

    Carlini and Wagner (2017); the loss of "CW-100" in Shafahi et al. (2019). It is
    zero, its largest value, once the example is misclassified.
    """
    true, largest_other = _true_and_largest_other(labels, logits)
    return -ops.maximum(true - largest_other, 0.0)


LOSSES = {"cross_entropy": cross_entropy, "cw_margin": cw_margin}


def _true_and_largest_other(labels: Any, logits: Any) -> tuple[Any, Any]:
    true_class = ops.one_hot(labels, logits.shape[-1], dtype="bool")
    true = ops.sum(ops.where(true_class, logits, 0.0), axis=-1)
    return true, ops.max(ops.where(true_class, -float("inf"), logits), axis=-1)
