"""The settings of an attack, which both sides read."""

from dataclasses import dataclass

EPSILON = {"linf": 8 / 255, "l2": 0.5}


@dataclass(frozen=True)
class Settings:
    """What an attack is run with; pixels are in [0, 1].

    Attributes:
        norm: "linf" or "l2".
        batch_size: examples in a minibatch.
        steps_scale: 1 for the published number of steps, less for a quick look.
        queries: queries of Square.
        seed: seed of the random numbers, each library's own.
    """

    norm: str
    batch_size: int
    steps_scale: float
    queries: int
    seed: int

    targets = 9

    @property
    def epsilon(self) -> float:
        """8/255 or 0.5, as RobustBench has it for CIFAR-10."""
        return EPSILON[self.norm]

    @property
    def step_size(self) -> float:
        """Of plain PGD: 2/255 for linf, and the same share of the radius for l2."""
        return self.epsilon / 4

    def steps(self, published: int) -> int:
        """How many steps to make instead of `published`."""
        return max(1, round(published * self.steps_scale))
