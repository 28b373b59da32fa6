"""How the losses compiled go from an example's loss to that of a minibatch."""

from typing import Any

from keras import tree

# Those that leave a sum over the examples to the gradient.
_SUMS = {"sum", "none", None}


def reductions_of(loss: Any) -> set[Any]:
    """Of the losses compiled: a name is a mean, as Keras has it."""
    losses = [each for each in tree.flatten(loss) if each is not None]
    return {getattr(each, "reduction", "sum_over_batch_size") for each in losses}


def are_summed(loss: Any) -> bool:
    """Whether what is compiled sums over the examples, and does not take the mean."""
    return bool(reductions_of(loss) & _SUMS)


def require_one_kind(loss: Any) -> None:
    """Raises if one output's loss is a sum and another's a mean.

    Raises:
        ValueError: what to change.
    """
    found = reductions_of(loss)
    if found & _SUMS and found - _SUMS:
        raise ValueError(
            "Argument `loss` of compile must have losses that are all sums or all "
            "means over the examples, to be shared by several devices. Received "
            f"reductions: {sorted(map(str, found))}. Give each loss the same "
            "`reduction`, and use `loss_weights`."
        )
