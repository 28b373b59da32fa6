"""The attacks of the paper's tables."""

from keras_free_adv import validation
from keras_free_adv.attacks.pgd_attack import PGDAttack

_CIFAR = {"epsilon": 8 / 255, "step_size": 2 / 255}
_IMAGENET = {"epsilon": 4 / 255, "step_size": 1 / 255}


def paper_attacks(dataset: str) -> list[PGDAttack]:
    """The columns of the tables of Shafahi et al. (2019), in their order.

    Images are in [0, 1]. CIFAR: PGD-20, PGD-100, CW-100 and 10-restart PGD-20, at
    epsilon 8/255 with steps of 2/255 (for CIFAR-100 the paper has the first two);
    ImageNet: PGD-10, PGD-50 and PGD-100, at 4/255 with steps of 1/255. Each keeps the
    last iterate of a restart, as the authors did.

    Args:
        dataset: "cifar10", "cifar100" or "imagenet".

    Returns:
        A list of attacks, for `evaluate_robustness`.

    Raises:
        ValueError: another data set.

    Example:
    >>> [attack.name for attack in paper_attacks("cifar10")]
    ['pgd20', 'pgd100', 'cw100', 'pgd20x10']
    """
    validation.one_of("dataset", dataset, ("cifar10", "cifar100", "imagenet"))

    def attack(steps: int, **settings: object) -> PGDAttack:
        scale = _IMAGENET if dataset == "imagenet" else _CIFAR
        return PGDAttack(steps=steps, keep="last", seed=0, **scale, **settings)  # type: ignore[arg-type]

    if dataset == "imagenet":
        return [attack(10), attack(50), attack(100)]
    attacks = [attack(20), attack(100)]
    if dataset == "cifar10":
        attacks += [attack(100, loss="cw_margin"), attack(20, restarts=10)]
    return attacks
