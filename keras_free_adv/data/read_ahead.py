"""Reading the items of a PyDataset in parallel, in order."""

import concurrent.futures
import multiprocessing
from collections import deque
from collections.abc import Iterator
from typing import Any

import keras


def read_ahead(dataset: keras.utils.PyDataset, indices: Iterator[int]) -> Iterator[Any]:
    """Reads items in order, `workers` at a time, `max_queue_size` ahead."""
    if dataset.workers <= 1 and not dataset.use_multiprocessing:
        for index in indices:
            yield dataset[index]
        return
    pool: concurrent.futures.Executor
    if dataset.use_multiprocessing:
        pool = concurrent.futures.ProcessPoolExecutor(
            max(dataset.workers, 1), mp_context=multiprocessing.get_context("spawn")
        )
    else:
        pool = concurrent.futures.ThreadPoolExecutor(dataset.workers)
    with pool:
        waiting: deque = deque()
        try:
            for index in indices:
                waiting.append(pool.submit(dataset.__getitem__, index))
                if len(waiting) >= max(dataset.max_queue_size, dataset.workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for item in waiting:
                item.cancel()
