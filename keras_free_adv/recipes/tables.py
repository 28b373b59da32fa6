"""Every row of the tables of Shafahi et al. (2019), and later baselines, as recipes.

`Recipe.source` names the source of settings and figures. The paper's figures are in
`evaluation/published_figures.py`.
"""

from typing import Any

from keras_free_adv.evaluation.published_figures import published_figures
from keras_free_adv.recipes.compact import compact_rows
from keras_free_adv.recipes.recipe import Recipe
from keras_free_adv.recipes.small import PHOTOS, digits_rows, small_rows

PAPER = "Shafahi et al. 2019"
WONG = "Wong et al. 2020"

# The authors' TensorFlow code for CIFAR, after Madry et al. (2018).
_CIFAR: dict[str, Any] = {
    "augment": "standard_pad2",
    "drop_remainder": True,
    "model": "wide_resnet",
    "model_arguments": {"depth": 32, "width": 10},
    "epsilon": 8 / 255,
    "batch_size": 128,
    "epochs": 200,  # 80,000 updates
    "steps_per_epoch": 400,
    "learning_rate": 0.1,
    "schedule": "piecewise",
    "drops": (40_000, 60_000),
    "weight_decay": 2e-4,
    "decayed": "kernels",
    "source": PAPER,
}

# The authors' PyTorch code for ImageNet: 5,005 minibatches of 256 a pass. For 2-PGD
# training the paper only gives the number of steps; here it makes as many passes as
# natural training, with steps of half of epsilon.
_MINIBATCHES = 5005
_IMAGENET: dict[str, Any] = {
    "dataset": "imagenet2012",
    "test_split": "validation",
    "epsilon": 4 / 255,
    "batch_size": 256,
    "steps_per_epoch": _MINIBATCHES,
    "learning_rate": 0.1,
    "schedule": "piecewise",
    "weight_decay": 1e-4,
    "decayed": "all",
    "policy": "mixed_float16",
    "attacks": "imagenet",
    "source": PAPER,
}

# Training times in the tables.
_MINUTES = {
    "cifar10": {
        "natural": 780,
        "free_m2": 816,
        "free_m4": 800,
        "free_m8": 785,
        "free_m10": 785,
        "7pgd": 5418,
    },
    "cifar100": {
        "natural": 811,
        "free_m4": 767,
        "free_m6": 791,
        "free_m8": 780,
        "free_m10": 776,
        "7pgd": 5157,
    },
    "imagenet": {
        "resnet50_free_m4": 3016,
        "resnet101_free_m4": 5122,
        "resnet152_free_m4": 7526,
        "resnet50_2pgd": 10435,
    },
}

_PGD7 = {"steps": 7, "step_size": 2 / 255}


def _cifar(dataset: str, row: str, method: str, **arguments: Any) -> Recipe:
    short = {"natural": "natural", "7pgd": "pgd7"}.get(row, row.replace("_m", ""))
    return Recipe(
        name=f"{dataset}_wrn32_10_{short}",
        dataset=dataset,
        method=method,
        method_arguments=arguments,
        attacks=dataset,
        published=published_figures(dataset, row),
        published_minutes=_MINUTES[dataset][row],
        **_CIFAR,
    )


def _cifar_rows(dataset: str, replays: tuple[int, ...]) -> list[Recipe]:
    return [
        _cifar(dataset, "natural", "natural"),
        *(_cifar(dataset, f"free_m{m}", "free", replays=m) for m in replays),
        _cifar(dataset, "7pgd", "pgd", **_PGD7),
    ]


def _imagenet(row: str, passes: int, method: str, **arguments: Any) -> Recipe:
    network = row.split("_")[0]
    # A free run makes ceil(90 / m) passes, and drops every ceil(30 / m).
    replays = arguments.get("replays", 1)
    drop = -(-30 // replays) * replays * _MINIBATCHES
    name = {"free_m4": "free4", "2pgd": "pgd2"}[row.partition("_")[2]]
    return Recipe(
        name=f"imagenet_{network}_{name}",
        model=f"keras.applications.{network.replace('resnet', 'ResNet')}",
        method=method,
        method_arguments=arguments,
        epochs=passes * replays,
        drops=(drop, 2 * drop),
        published=published_figures("imagenet", row),
        published_minutes=_MINUTES["imagenet"][row],
        **_IMAGENET,
    )


# The fast schedule of Wong et al. (2020): PreActResNet-18, half precision, and a
# learning rate that rises and falls linearly, with every update.
_FAST: dict[str, Any] = {
    "dataset": "cifar10",
    "model": "preact_resnet18",
    "model_arguments": {"width": 64},
    "epsilon": 8 / 255,
    "batch_size": 128,
    "steps_per_epoch": 391,
    "schedule": "cyclic",
    "weight_decay": 5e-4,
    "decayed": "all",
    "policy": "mixed_float16",
    "attacks": "cifar10",
    "source": WONG,
}


def _fast_rows() -> list[Recipe]:
    return [
        Recipe(
            name="cifar10_preactresnet18_free8",
            method="free",
            method_arguments={"replays": 8},
            epochs=80,  # 10 passes
            learning_rate=0.04,
            rise=0.5,
            published={"natural": 78.38, "pgd50x10": 46.18},
            published_minutes=20.91,
            **_FAST,
        ),
        Recipe(
            name="cifar10_preactresnet18_fgsm_rs",
            method="pgd",
            method_arguments={"steps": 1, "step_size": 10 / 255},
            epochs=15,
            learning_rate=0.2,
            rise=0.5,
            published={"natural": 83.81, "pgd50x10": 46.06},
            published_on="about twice the epochs, in 12 minutes on their GPU",
            **_FAST,
        ),
    ]


# TRADES, on the network of this table; its authors use a WRN-34-10.
_TRADES = Recipe(
    name="cifar10_wrn32_10_trades",
    dataset="cifar10",
    method="trades",
    method_arguments={"steps": 10, "step_size": 2 / 255, "beta": 6.0},
    attacks="cifar10",
    published={"natural": 84.92, "pgd20": 56.61},
    published_on="WRN-34-10, epsilon 0.031, PGD-20 with steps of 0.003",
    **{
        **_CIFAR,
        "augment": "standard",
        "drop_remainder": False,
        "epochs": 76,
        "steps_per_epoch": 391,
        "drops": (74 * 391,),  # from the 75th epoch on
        "decayed": "all",
        "source": "Zhang et al. 2019",
    },
)

TABLES: dict[str, list[Recipe]] = {
    "cifar10": _cifar_rows("cifar10", (2, 4, 8, 10)),
    "cifar100": _cifar_rows("cifar100", (4, 6, 8, 10)),
    "imagenet": [
        _imagenet("resnet50_free_m4", 23, "free", replays=4),
        _imagenet("resnet101_free_m4", 23, "free", replays=4),
        _imagenet("resnet152_free_m4", 23, "free", replays=4),
        _imagenet("resnet50_2pgd", 90, "pgd", steps=2, step_size=2 / 255),
    ],
    "cifar10_baselines": [*_fast_rows(), _TRADES],
    "cifar10_compact": compact_rows(),
    "cifar10_small": small_rows("cifar10", (2, 4, 8, 10)),
    "digits": digits_rows(),
    "photos": [PHOTOS],
    "cifar100_small": small_rows("cifar100", (4, 6, 8, 10)),
}
