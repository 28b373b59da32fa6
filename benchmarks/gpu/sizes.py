"""How large each step is: in full, or tiny for a rehearsal on a CPU."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sizes:
    """Of everything that is run.

    Attributes:
        dry: whether this is a rehearsal, whose figures mean nothing.
        width: channels of the first stage of PreActResNet-18; 0 for a tiny network in
            its place.
        batch_size: images in a minibatch.
        updates: of a short and of a long call of `fit`; what an update costs is the
            difference of their times, by the difference of their updates.
        rounds: turns of each method.
        busy_updates: of the `fit` in which the GPU should be busy.
        changes: of the recipe that is trained to its end.
        examples: images under attack.
        attacks: after the training, those that travel under one name.
        steps_scale: of the attacks beside another library's.
        queries: of Square.
    """

    dry: bool
    width: int
    batch_size: int
    updates: tuple[int, int]
    rounds: int
    busy_updates: int
    changes: dict[str, object] = field(default_factory=dict)
    examples: int = 1000
    attacks: tuple[str, ...] = ("pgd50x10", "autoattack")
    steps_scale: float = 1.0
    queries: int = 5000


FULL = Sizes(
    dry=False, width=64, batch_size=128, updates=(40, 240), rounds=3, busy_updates=800
)

DRY = Sizes(
    dry=True,
    width=0,
    batch_size=8,
    updates=(8, 16),
    rounds=1,
    busy_updates=8,
    changes={
        "epochs": 1,
        "steps_per_epoch": 8,
        "batch_size": 8,
        "model": "small_cnn",
        "model_arguments": {},
    },
    examples=8,
    attacks=("fgsm",),
    steps_scale=0.02,
    queries=5,
)
