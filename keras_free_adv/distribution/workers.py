"""Many machines: what `MultiWorkerMirroredStrategy` needs besides its own.

What gathers has to be called by every worker, at the same point: each waits for all.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

AT_ONCE_BYTES = 2**28


class WorkerLost(RuntimeError):
    """Another worker died, or cannot be reached."""


def strategy_in_force() -> Any:
    """The `tf.distribute.Strategy` of this scope; None on another backend."""
    if keras.backend.backend() != "tensorflow":
        return None
    return tf.distribute.get_strategy()


def many_workers(strategy: Any) -> bool:
    """Whether the strategy is of several processes, each with replicas of its own."""
    return worker_count(strategy) > 1


def strategy_of(model: Any) -> Any:
    """The strategy that a model was made under; None on JAX and PyTorch."""
    return getattr(model, "distribute_strategy", None)


def replica_count(strategy: Any) -> int:
    """How many replicas share a minibatch, of all workers; without a strategy 1."""
    return 1 if strategy is None else strategy.num_replicas_in_sync


def worker_count(strategy: Any) -> int:
    """How many processes the strategy has."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return strategy.num_replicas_in_sync // len(strategy.extended.worker_devices)


def worker_number(strategy: Any) -> int:
    """The number of this worker: 0 of a single one, and of the one that writes."""
    if not many_workers(strategy):
        return 0
    resolver = strategy.cluster_resolver
    # A chief comes before the workers.
    chiefs = "chief" in resolver.cluster_spec().jobs
    return resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)


@contextlib.contextmanager
def explaining_lost_worker(strategy: Any) -> Iterator[None]:
    """Within, the error that the loss of another worker ends in says what to do.

    Raises:
        WorkerLost: what says it.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        if not many_workers(strategy):
            raise
        raise WorkerLost(
            f"Another of the {worker_count(strategy)} workers was lost, or cannot be "
            "reached. Stop all that still run, and start the same command on all of "
            "them again. With keras_free_adv.BackupAndRestore they go on from the last "
            "backup."
        ) from error


def logs_of_workers(logs: dict[str, Any], strategy: Any) -> dict[str, Any]:
    """What a step returns, in the shape that Keras can take the replicas' mean of.

    Keras reduces each log over axis 0 when there are many workers, and fails on the
    scalars that its own steps return (keras issue 20585).
    """
    if not many_workers(strategy):
        return logs
    return {name: ops.reshape(value, (1,)) for name, value in logs.items()}


def gathered(values: Any, strategy: Any) -> np.ndarray:
    """Each replica's value, of all workers, stacked in the order of the replicas.

    Args:
        values: one value for each replica of this worker, all of one shape.
        strategy: the strategy in force.
    """
    stacked = np.stack([ops.convert_to_numpy(value) for value in values])
    if not many_workers(strategy):
        return stacked
    sent = stacked.astype("int32") if stacked.dtype == bool else stacked
    if sent.ndim == 1:
        return _gathered_at_once(sent, strategy).astype(stacked.dtype)
    # Each device holds what is gathered of all at once.
    row = strategy.num_replicas_in_sync * sent[0, :1].nbytes
    rows = max(1, AT_ONCE_BYTES // max(1, row))
    parts = [
        _gathered_at_once(sent[:, begin : begin + rows], strategy)
        for begin in range(0, max(1, sent.shape[1]), rows)
    ]
    return np.concatenate(parts, 1).astype(stacked.dtype)


def _gathered_at_once(sent: np.ndarray, strategy: Any) -> np.ndarray:
    received = _gathering(strategy)(tf.constant(sent))
    return strategy.experimental_local_results(received)[0].numpy()


def of_each_worker(value: Any, strategy: Any) -> np.ndarray:
    """One value of each worker, stacked."""
    if not many_workers(strategy):
        return np.asarray([value])
    here = len(strategy.extended.worker_devices)
    return gathered([value] * here, strategy)[::here]


@functools.cache
def _gathering(strategy: Any) -> Any:
    """As `strategy.gather`, but traced once and not at each call."""

    def gather(stacked: Any) -> Any:
        context = tf.distribute.get_replica_context()
        own = context.replica_id_in_sync_group % len(strategy.extended.worker_devices)
        return context.all_gather(stacked[own][None], axis=0)

    return tf.function(lambda stacked: strategy.run(gather, args=(stacked,)))


def require_same(value: int, strategy: Any, message: str) -> None:
    """Raises unless all workers have the same number; each has to call it.

    Raises:
        RuntimeError: `message`, with {found} replaced by what each has.
    """
    found = of_each_worker(np.int64(value), strategy).tolist()
    if len(set(found)) > 1:
        raise RuntimeError(message.format(found=found))


def of_this_worker(values: np.ndarray, strategy: Any) -> np.ndarray:
    """Of one value for each replica those of this worker."""
    if not many_workers(strategy):
        return values
    here = len(strategy.extended.worker_devices)
    first = here * worker_number(strategy)
    return values[first : first + here]
