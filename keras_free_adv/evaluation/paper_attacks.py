"""The attacks of the paper's tables."""

from keras_free_adv import pixel_scale, validation
from keras_free_adv.attacks.pgd_attack import PGDAttack

_CIFAR = {"epsilon": 8 / 255, "step_size": 2 / 255}
_IMAGENET = {"epsilon": 4 / 255, "step_size": 1 / 255}


def paper_attacks(
    dataset: str, *, value_range: tuple[float, float] | None = None
) -> list[PGDAttack]:
    """The columns of the tables of Shafahi et al. (2019), in their order.

    CIFAR: PGD-20, PGD-100, CW-100 and 10-restart PGD-20, at epsilon 8/255 with steps of
    2/255 (for CIFAR-100 the paper has the first two); ImageNet: PGD-10, PGD-50 and
    PGD-100, at 4/255 with steps of 1/255. So for images in [0, 1]. Each keeps the last
    iterate of a restart, as the authors did.

    Args:
        dataset: "cifar10", "cifar100" or "imagenet".
        value_range: lowest and highest pixel value of the model's images, which the
            lengths are scaled to; None for (0, 1).

    Returns:
        A list of attacks, for `evaluate_robustness`.

    Raises:
        ValueError: another data set, or a wrong `value_range`.

    Example:
    >>> [attack.name for attack in paper_attacks("cifar10")]
    ['pgd20', 'pgd100', 'cw100', 'pgd20x10']
    """
    validation.one_of("dataset", dataset, ("cifar10", "cifar100", "imagenet"))

    if value_range is None:
        value_range = pixel_scale.UNIT_RANGE
    low, high = value_range = validation.pixel_range(value_range)
    lengths = _IMAGENET if dataset == "imagenet" else _CIFAR
    scaled = {name: length * (high - low) for name, length in lengths.items()}

    def attack(steps: int, **settings: object) -> PGDAttack:
        return PGDAttack(
            steps=steps,
            keep="last",
            value_range=value_range,
            seed=0,
            **scaled,  # type: ignore[arg-type]
            **settings,  # type: ignore[arg-type]
        )

    if dataset == "imagenet":
        return [attack(10), attack(50), attack(100)]
    attacks = [attack(20), attack(100)]
    if dataset == "cifar10":
        attacks += [attack(100, loss="cw_margin"), attack(20, restarts=10)]
    return attacks
