"""What an update logs: the loss, the losses of the outputs, and the metrics."""

from typing import Any

from keras import ops

from keras_free_adv import keras_internals
from keras_free_adv.distribution import padded_batch, reductions, workers


def logs_of_update(model: Any, data: Any, y_pred: Any, loss: Any) -> dict[str, Any]:
    """Updates the metrics with a minibatch, and returns their values.

    Args:
        model: a `WeightUpdates`.
        data: the minibatch, as `update` was given it.
        y_pred: the outputs.
        loss: as of `WeightUpdates._loss`, a scalar or one number for each example.
    """
    replicas = workers.replica_count(model._strategy)
    if len(loss.shape) > 0:  # reduction="none": each example's
        loss = ops.mean(loss) * padded_batch.proportion(data, summed=False)
    else:  # under a strategy the replica's part of a sum
        loss = loss * replicas
    tracker = keras_internals.loss_tracker(model)
    tracker.update_state(loss, sample_weight=padded_batch.weight_of_loss(data))
    _log_losses_of_outputs(model, data, y_pred, replicas)
    logs = padded_batch.metrics_of_real_examples(model, data, y_pred)
    return workers.logs_of_workers(logs, model._strategy)


def _log_losses_of_outputs(model: Any, data: Any, y_pred: Any, replicas: int) -> None:
    """Logs each output's loss so that, unweighted, they add up to the loss.

    Keras would count each minibatch alike, and the padding of a replica without
    examples too.
    """
    _, y, sample_weight = padded_batch.unpacked(data)
    found = keras_internals.losses_of_outputs(model, y, y_pred, sample_weight)
    for tracker, loss in found:
        summed = reductions.are_summed(model.loss)
        if len(loss.shape) > 0:  # reduction="none"
            loss = ops.mean(loss) / replicas
            summed = False
        tracker.update_state(
            loss * padded_batch.proportion(data, summed=summed),
            sample_weight=padded_batch.weight_of_loss(data),
        )
