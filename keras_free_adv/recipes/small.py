"""Small versions of the rows, for a CPU.

CIFAR, about 20 minutes each on one core: a PreActResNet-18 of a quarter of the width,
in bfloat16, with a learning rate that rises and falls linearly. Natural and Free rows
make the same number of updates; the others as many as fit in the same time.
scikit-learn's digits, some seconds each, need no download.
"""

from typing import Any

from keras_free_adv.evaluation.published_figures import published_figures
from keras_free_adv.recipes.recipe import Recipe

UPDATES_AN_EPOCH = 400
_EPOCHS = 15

_SMALL: dict[str, Any] = {
    "model": "preact_resnet18",
    "model_arguments": {"width": 16},
    "epsilon": 8 / 255,
    "batch_size": 128,
    "learning_rate": 0.1,
    "schedule": "cyclic",
    "rise": 0.4,
    "weight_decay": 2e-4,
    "decayed": "all",
    "policy": "mixed_bfloat16",
    "source": "the settings are this project's",
}

# Free updates in the time of one update of each method, measured by
# `benchmarks/update_cost.py --network=preact_resnet18_16 --policy=mixed_bfloat16`, on
# one core.
_COSTS = {"pgd7": 5.3, "fgsm_rs": 1.6, "trades": 8.3}


def _row(dataset: str, short: str, method: str, **arguments: Any) -> Recipe:
    updates = _EPOCHS * UPDATES_AN_EPOCH / _COSTS.get(short, 1.0)
    table_row = {"pgd7": "7pgd"}.get(short, short.replace("free", "free_m"))
    is_of_the_paper = short not in ("fgsm_rs", "trades")
    # A backup is written after each epoch: slower methods have shorter epochs.
    return Recipe(
        name=f"{dataset}_small_{short}",
        dataset=dataset,
        method=method,
        method_arguments=arguments,
        epochs=_EPOCHS,
        steps_per_epoch=round(updates / _EPOCHS),
        attacks=dataset,
        published=published_figures(dataset, table_row) if is_of_the_paper else {},
        published_on="WRN-32-10, 80,000 updates" if is_of_the_paper else "",
        **_SMALL,
    )


def small_rows(dataset: str, replays: tuple[int, ...]) -> list[Recipe]:
    """The rows of a CIFAR table, and the later baselines."""
    return [
        _row(dataset, "natural", "natural"),
        *(_row(dataset, f"free{m}", "free", replays=m) for m in replays),
        _row(dataset, "pgd7", "pgd", steps=7, step_size=2 / 255),
        _row(dataset, "fgsm_rs", "pgd", steps=1, step_size=10 / 255),
        _row(dataset, "trades", "trades", steps=10, step_size=2 / 255, beta=6.0),
    ]


# A folder of the user's own photographs, brought to 64x64 unless another size is said.
PHOTOS = Recipe(
    name="photos",
    dataset="yours",
    augment="flip",
    model="compact_resnet",
    model_arguments={"activation": "silu"},
    method="free",
    method_arguments={"replays": 3, "step_size": 20 / 255},
    epsilon=8 / 255,
    training_epsilon=10 / 255,
    batch_size=64,
    epochs=15,
    steps_per_epoch=200,
    optimizer="muon",
    learning_rate=0.02,
    schedule="cyclic",
    rise=0.1,
    weight_decay=0.0,
    decayed="all",
    attacks="cifar10",
    source="the settings are this project's",
)

_DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "model": "small_cnn",
    "epsilon": 0.16,
    "batch_size": 128,
    "epochs": 40,
    "steps_per_epoch": 24,
    "learning_rate": 0.1,
    "schedule": "cyclic",
    "rise": 0.2,
    "weight_decay": 2e-4,
    "decayed": "kernels",
    "attacks": "cifar10",
    "source": "the settings are this project's",
}


def digits_rows() -> list[Recipe]:
    """Every method on digits, with the same number of updates."""
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        "natural": ("natural", {}),
        "free4": ("free", {"replays": 4}),
        "free8": ("free", {"replays": 8}),
        "pgd7": ("pgd", {"steps": 7, "step_size": 0.04}),
        "fgsm_rs": ("pgd", {"steps": 1, "step_size": 0.2}),
        "trades": ("trades", {"steps": 10, "step_size": 0.04, "beta": 6.0}),
    }
    return [
        Recipe(
            name=f"digits_{short}", method=method, method_arguments=arguments, **_DIGITS
        )
        for short, (method, arguments) in rows.items()
    ]
