"""Times of updates inside `fit`, taken in turns, and the ratios of them."""

import statistics
import time
import warnings
from collections.abc import Mapping, Sequence

import keras
import numpy as np


class UpdateTimes(keras.callbacks.Callback):
    """The seconds from the end of one update to the end of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._last: float | None = None

    def on_train_begin(self, logs=None):
        self._last = None  # the first update, after which nothing is known, has none

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if self._last is not None:
            self.seconds.append(now - self._last)
        self._last = now


def in_turns(
    models: Mapping[str, keras.Model],
    data: Mapping[str, tuple[np.ndarray, np.ndarray]],
    batch_size: Mapping[str, int],
    updates: int,
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds of each update of each model, which train in turns for a few updates.

    The first round traces the graphs and is not counted.
    """
    warnings.filterwarnings("ignore", message="This run ends after")
    times = {name: UpdateTimes() for name in models}
    for number in range(rounds + 1):
        for name, model in models.items():
            images, labels = data[name]
            model.fit(
                images,
                labels,
                batch_size=batch_size[name],
                epochs=1,
                steps_per_epoch=updates + 1 if number else 2,
                callbacks=[times[name]],
                verbose=0,
            )
            if not number:
                times[name].seconds.clear()
    return {name: each.seconds for name, each in times.items()}


def random_images(count: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1] and labels of 10 classes; they take the time of real ones."""
    generator = np.random.default_rng(0)
    images = generator.uniform(size=(count, size, size, 3)).astype("float32")
    return images, generator.integers(0, 10, count)


def table(seconds: Mapping[str, Sequence[float]], base: str, what: str) -> str:
    """Minima and medians in milliseconds, and their ratios to those of `base`."""
    least, middle = min(seconds[base]), statistics.median(seconds[base])
    lines = [
        f"| {what} | minimum, ms | median, ms | / {base} (minima) "
        f"| / {base} (medians) |",
        "|---|---|---|---|---|",
    ]
    for name, times in seconds.items():
        low, median = min(times), statistics.median(times)
        lines.append(
            f"| {name} | {1e3 * low:.1f} | {1e3 * median:.1f} | {low / least:.3f} "
            f"| {median / middle:.3f} |"
        )
    return "\n".join(lines)
