"""What an attack maximizes when a model predicts several labels at once.

The same names as in `losses`: an attack takes those that belong to its model. A label
is predicted where its logit is above zero, its probability above one half. An example
is misclassified as soon as one label is wrong.
"""

from typing import Any

from keras import ops


def cross_entropy(labels: Any, logits: Any) -> Any:
    """The sum of the labels' binary cross-entropies, `[B]`, from logits `[B, L]`.

        sum_l log(1 + exp(-z_l)) where label l is there, else log(1 + exp(z_l))

    Args:
        labels: 1 where a label is there, else 0, `[B, L]`.
        logits: `[B, L]`.
    """
    return ops.sum(ops.softplus(leads(labels, logits)), axis=-1)


def cw_margin(labels: Any, logits: Any) -> Any:
    """The margin, at most zero, its value once a label is wrong, `[B]`."""
    return ops.minimum(margin(labels, logits), 0.0)


def margin(labels: Any, logits: Any) -> Any:
    """The largest lead, `[B]`: above zero once a label is wrong."""
    return ops.max(leads(labels, logits), axis=-1)


def leads(labels: Any, logits: Any) -> Any:
    """How far each label is beyond its decision boundary, `[B, L]`.

    -z_l where label l is there, else z_l: above zero once it is wrong.
    """
    return ops.where(_are_there(labels), -logits, logits)


def are_wrong(labels: Any, logits: Any) -> Any:
    """Which labels are predicted wrongly, or have a logit of NaN, `[B, L]`."""
    predicted = ops.greater(logits, 0.0)
    return ops.logical_or(
        ops.not_equal(predicted, _are_there(labels)), ops.isnan(logits)
    )


def targeted_margin(labels: Any, logits: Any, targets: Any) -> Any:
    """The lead of one label of each example, `[B]`; `targets` are their numbers."""
    column = ops.expand_dims(targets, -1)
    return ops.squeeze(ops.take_along_axis(leads(labels, logits), column, axis=-1), -1)


def divergence(logits: Any, other: Any) -> Any:
    """The sum of the Kullback-Leibler divergences of the labels, `[B]`.

        KL(p, q) = sum_l p_l log(p_l / q_l) + (1 - p_l) log((1 - p_l) / (1 - q_l))

    Args:
        logits: of p, `[B, L]`.
        other: the logits of q, `[B, L]`.
    """
    present, absent = ops.sigmoid(logits), ops.sigmoid(-logits)
    # log p = -softplus(-z), without the rounding of p next to 0 and 1.
    of_present = ops.softplus(-other) - ops.softplus(-logits)
    of_absent = ops.softplus(other) - ops.softplus(logits)
    return ops.sum(present * of_present + absent * of_absent, axis=-1)


def likeliest_others(labels: Any, logits: Any, count: int) -> Any:
    """The `count` labels nearest to being predicted wrongly, `[B, count]`."""
    return ops.cast(ops.top_k(leads(labels, logits), count)[1], "int32")


LOSSES = {"cross_entropy": cross_entropy, "cw_margin": cw_margin}


def _are_there(labels: Any) -> Any:
    return ops.greater(ops.cast(labels, "float32"), 0.5)
