"""`keras-free-adv probe`: whether a server is as robust as the model that it serves."""

from typing import Any

import numpy as np

import keras_free_adv as kfa
from keras_free_adv import datasets
from keras_free_adv.command_line import console
from keras_free_adv.command_line import values as typed
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.command_line.evaluate import ball
from keras_free_adv.command_line.subject import Subject, subject
from keras_free_adv.serving import probing
from keras_free_adv.serving.tf_serving import Server, ServingError

AGREES = "The server answers as the Keras model does."
DIFFERS = "WARNING: not the model that was trained."


def run(values: Any, name: str, model: str, data: str | None = None) -> None:
    """Probes a server, prints the table, and fails if it differs."""
    try:
        server = Server(
            values.server,
            name,
            version=values.model_version,
            protocol=values.protocol,
            timeout=values.timeout,
        )
    except ValueError as error:
        raise CommandError(f"--server: {error}", "server") from error
    try:
        doubts = check(values, server, subject(model), data)
    except ServingError as error:
        raise CommandError(str(error)) from error
    if doubts:
        raise CommandError("\n".join([DIFFERS, *doubts]))
    print(AGREES)


def check(values: Any, server: Server, served: Subject, data: str | None) -> list[str]:
    """Probes a server, prints the table, and returns what is wrong.

    Args:
        values: flags of the names `epsilon`, `norm`, `value_range`, `split`,
            `examples`, `image_size`, `data_dir`, `queries`, `tolerance` and `seed`.
        server: that is probed.
        served: the model that it should serve.
        data: name of a data set; None for that of the recipe.

    Raises:
        CommandError: a setting is wrong, or missing.
        ServingError: the server does not answer.
    """
    low, high = served.value_range(typed.pixel_range("value_range", values.value_range))
    epsilon, norm = ball(values, served)
    recipe = served.recipe
    if data is None and recipe is None:
        raise CommandError(
            "The name of a data set is needed for a model that is not a run, such as "
            "cifar10."
        )
    images = datasets.load(
        data or recipe.dataset,  # type: ignore[union-attr]
        split=values.split or (recipe.test_split if recipe else "test"),
        batch_size=values.examples,
        image_size=values.image_size,
        data_dir=values.data_dir,
    )
    radius = epsilon * (high - low)
    settings = {"norm": norm, "value_range": (low, high), "seed": values.seed}
    x, y = (np.asarray(part) for part in next(iter(images)))
    with console.without_warnings():
        rows, doubts = probing.probe(
            server,
            served.model,
            np.round(x * 255).astype("uint8"),
            y,
            white_box=kfa.PGDAttack(radius, steps=20, **settings),
            black_box=kfa.SquareAttack(
                radius, queries=values.queries, from_logits=False, **settings
            ),
            image_size=images.image_size,
            tolerance=values.tolerance,
        )
    width = max((len(row.images) for row in rows), default=0)
    print(f"{'images':{width}}   Keras  server  probabilities apart")
    for row in rows:
        accuracies = f"{row.keras:6.1%}  {row.server:6.1%}"
        print(f"{row.images:{width}}  {accuracies}  {row.apart:.1e}")
    print(f"{len(y)} images; accuracies. epsilon={epsilon:.4g} on the [0, 1] scale.")
    return doubts
