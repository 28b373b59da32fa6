"""The best found for CIFAR-10 in some twenty minutes of one core, with four methods.

A network of 0.7 million parameters whose first convolution has stride 2, SiLU, Muon and
no augmentation but flips (7-PGD: none at all). Tuned for Free training, FGSM-RS and, in
fewer trials, 7-PGD on the last 5,000 training images by `benchmarks/small_recipe.py`:
docs/results.md. Every row takes as long as the Free row.
"""

from typing import Any

from keras_free_adv.recipes.recipe import Recipe

_EPOCHS = 10
_STEPS = 720  # of natural and Free training in an epoch

_COMPACT: dict[str, Any] = {
    "dataset": "cifar10",
    "augment": "flip",
    "drop_remainder": True,
    "model": "compact_resnet",
    "model_arguments": {"activation": "silu"},
    "epsilon": 8 / 255,
    "batch_size": 128,
    "epochs": _EPOCHS,
    "optimizer": "muon",
    "learning_rate": 0.02,
    "schedule": "cyclic",
    "rise": 0.1,
    "weight_decay": 0.0,
    "decayed": "all",
    "policy": "mixed_bfloat16",
    "attacks": "cifar10",
    "source": "the settings are this project's",
}

# Free updates in the time of one update of each method, measured by
# `benchmarks/small_recipe.py --cost`, on one core.
_COSTS = {"natural": 1.0, "free": 1.0, "fgsm_rs": 1.65, "pgd7": 5.45}


def _row(short: str, method: str, **settings: Any) -> Recipe:
    return Recipe(
        name=f"cifar10_compact_{short}",
        method=method,
        steps_per_epoch=round(_STEPS / _COSTS[short]),
        **{**_COMPACT, **settings},
    )


def compact_rows() -> list[Recipe]:
    """Free training, and the others with the same network, options and time."""
    return [
        _row(
            "free",
            "free",
            method_arguments={"replays": 3, "step_size": 20 / 255},
            training_epsilon=10 / 255,
        ),
        _row(
            "fgsm_rs",
            "pgd",
            method_arguments={"steps": 1, "step_size": 12.5 / 255},
            training_epsilon=10 / 255,
        ),
        _row(
            "pgd7",
            "pgd",
            method_arguments={"steps": 7, "step_size": 2 / 255},
            # Found in trials of a quarter of the time, 370 updates.
            augment="none",
            learning_rate=0.04,
        ),
        _row("natural", "natural"),
    ]
