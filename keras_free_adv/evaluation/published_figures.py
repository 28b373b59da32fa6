"""The accuracies that Shafahi et al. (2019) published, in percent of the test set.

Columns have the names of the attacks of `paper_attacks`.
"""

from collections.abc import Mapping

from keras_free_adv import validation

SOURCE = "Shafahi et al. 2019"

_CIFAR10_COLUMNS = ("natural", "pgd20", "pgd100", "cw100", "pgd20x10")
_CIFAR10 = {
    "natural": (95.01, 0.00, 0.00, 0.00, 0.00),
    "free_m2": (91.45, None, 33.20, 34.57, 33.41),
    "free_m4": (87.83, 41.15, 40.35, 41.96, 40.73),
    "free_m8": (85.96, 46.82, 46.19, 46.60, 46.33),
    "free_m10": (83.94, 46.31, 45.79, 45.86, 45.94),
    "7pgd": (87.25, 45.84, 45.29, 46.52, 45.53),
}
_CIFAR100_COLUMNS = ("natural", "pgd20", "pgd100")
_CIFAR100 = {
    "natural": (78.84, 0.00, 0.00),
    "free_m4": (65.28, 20.64, 20.15),
    "free_m6": (64.87, 23.68, 23.18),
    "free_m8": (62.13, 25.88, 25.58),
    "free_m10": (59.27, 25.15, 24.88),
    "7pgd": (59.87, 22.76, 22.52),
}
_IMAGENET_COLUMNS = ("natural", "pgd10", "pgd50", "pgd100")
_IMAGENET = {
    "resnet50_free_m4": (60.206, 32.768, 31.878, 31.816),
    "resnet101_free_m4": (63.340, 35.388, 34.402, 34.328),
    "resnet152_free_m4": (64.446, 36.992, 36.044, 35.994),
    "resnet50_2pgd": (64.134, 37.172, 36.352, 36.316),
}
_Row = tuple[float | None, ...]
_TABLES: dict[str, tuple[tuple[str, ...], Mapping[str, _Row]]] = {
    "cifar10": (_CIFAR10_COLUMNS, _CIFAR10),
    "cifar100": (_CIFAR100_COLUMNS, _CIFAR100),
    "imagenet": (_IMAGENET_COLUMNS, _IMAGENET),
}


def published_figures(dataset: str, training: str) -> dict[str, float]:
    """One row of a table of the paper, in percent.

    WRN-32-10 for CIFAR at epsilon 8/255, ResNets for ImageNet at 4/255, L-infinity,
    the whole test set.

    Args:
        dataset: "cifar10", "cifar100" or "imagenet".
        training: the row: "natural", "free_m8", "7pgd", ...; the error for an unknown
            name lists them.

    Returns:
        Attack name to percent, for `RobustnessReport.to_markdown(published=...)`.

    Raises:
        ValueError: an unknown data set or row.

    Example:
    >>> published_figures("cifar10", "free_m8")["pgd20"]
    46.82
    """
    validation.one_of("dataset", dataset, _TABLES)
    columns, rows = _TABLES[dataset]
    figures = rows[validation.one_of("training", training, rows)]
    pairs = zip(columns, figures, strict=True)
    return {name: figure for name, figure in pairs if figure is not None}
