"""What an attack maximizes: one number an example, from logits.

For a model that predicts one of C classes; `label_losses` has the same for several
labels at once.
"""

from typing import Any

from keras import ops


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Cross-entropy of the true class, `[B]`, from logits `[B, C]`.

        log sum_j exp(z_j - z_y)

    Subtracted first: log sum_j exp(z_j) - z_y is all rounding for a small loss of
    large logits.
    """
    true, _ = _true_and_largest_other(labels, logits)
    return ops.logsumexp(logits - true[:, None], axis=-1)


def cw_margin(labels: Any, logits: Any) -> Any:
    """The Carlini-Wagner margin -max(z_y - max_{j != y} z_j, 0), `[B]`.

    Carlini and Wagner (2017); the loss of "CW-100" in Shafahi et al. (2019). It is
    zero, its largest value, once the example is misclassified.
    """
    return ops.minimum(margin(labels, logits), 0.0)


def margin(labels: Any, logits: Any) -> Any:
    """max_{j != y} z_j - z_y, `[B]`: above zero once the example is misclassified."""
    true, largest_other = _true_and_largest_other(labels, logits)
    return largest_other - true


def leads(labels: Any, logits: Any) -> Any:
    """z_s - z_y of each class s, `[B, C]`: how far it is ahead of the true one."""
    return logits - ops.take_along_axis(logits, labels[:, None], axis=-1)


def are_wrong(labels: Any, logits: Any) -> Any:
    """Whether the largest logit is not the label's, or one is NaN, `[B]`."""
    predicted = ops.cast(ops.argmax(logits, -1), "int32")
    # Of NaN, argmax makes class 0.
    return ops.logical_or(
        ops.not_equal(predicted, labels), ops.any(ops.isnan(logits), axis=-1)
    )


def targeted_margin(labels: Any, logits: Any, targets: Any) -> Any:
    """z_t - z_y, `[B]`: how far the target class is ahead of the true one."""
    return _logit_of(targets, logits) - _logit_of(labels, logits)


def dlr(labels: Any, logits: Any) -> Any:
    """The difference of logits ratio, `[B]`, of three classes or more.

        -(z_y - max_{j != y} z_j) / (z_1st - z_3rd)

    Croce and Hein (2020), section 4. The ratio does not change with the scale of the
    logits, on which the gradient of the cross-entropy depends.
    """
    ordered = ops.top_k(logits, 3)[0]
    return margin(labels, logits) / (ordered[:, 0] - ordered[:, 2] + _TINY)


def targeted_dlr(labels: Any, logits: Any, targets: Any) -> Any:
    """The targeted difference of logits ratio, `[B]`, of four classes or more.

        -(z_y - z_t) / (z_1st - (z_3rd + z_4th) / 2)

    Croce and Hein (2020), section 4.1.
    """
    ordered = ops.top_k(logits, 4)[0]
    width = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2.0
    return targeted_margin(labels, logits, targets) / (width + _TINY)


def divergence(logits: Any, other: Any) -> Any:
    """The Kullback-Leibler divergence of the predictions p and q, `[B]`.

        KL(p, q) = sum_j p_j (log p_j - log q_j)

    Args:
        logits: of p, `[B, C]`.
        other: the logits of q, `[B, C]`.
    """
    log_p = ops.log_softmax(logits, axis=-1)
    log_q = ops.log_softmax(other, axis=-1)
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def likeliest_others(labels: Any, logits: Any, count: int) -> Any:
    """The `count` classes of largest logit but for the true one, `[B, count]`."""
    true_class = ops.one_hot(labels, logits.shape[-1], dtype="bool")
    others = ops.where(true_class, -float("inf"), logits)
    return ops.cast(ops.top_k(others, count)[1], "int32")


LOSSES = {"cross_entropy": cross_entropy, "cw_margin": cw_margin}

# Keeps equal logits from dividing zero by zero.
_TINY = 1e-12


def _logit_of(classes: Any, logits: Any) -> Any:
    column = ops.expand_dims(classes, -1)
    return ops.squeeze(ops.take_along_axis(logits, column, axis=-1), -1)


def _true_and_largest_other(labels: Any, logits: Any) -> tuple[Any, Any]:
    true_class = ops.one_hot(labels, logits.shape[-1], dtype="bool")
    true = ops.sum(ops.where(true_class, logits, 0.0), axis=-1)
    return true, ops.max(ops.where(true_class, -float("inf"), logits), axis=-1)
