"""Running attacks one after the other, each on the examples still standing.

The libraries' attacks take a batch. This is how a user with a whole test set calls
them: only on what the model gets right and no former attack broke, in full batches.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Maps images and labels to adversarial images.
Attack = Callable[[Tensor, Tensor], Tensor]
# Maps images and labels of a whole set to (which stand, images that broke the others).
Run = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def one_after_the_other(
    network: nn.Module, attacks: list[Attack], batch_size: int
) -> Run:
    """Attacks in a row; several restarts are the same attack several times."""

    def run(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        broken = images.clone()
        numbers = torch.arange(len(images))
        stands = torch.cat(
            [right(network, images[b], labels[b]) for b in numbers.split(batch_size)]
        )
        for attack in attacks:
            for batch in stands.nonzero().flatten().split(batch_size):
                if not len(batch):  # the split of nothing is one empty batch
                    break
                found = attack(images[batch], labels[batch]).detach()
                fooled = ~right(network, found, labels[batch])
                broken[batch[fooled]] = found[fooled]
                stands[batch[fooled]] = False
        return stands, broken

    return run


def right(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Which images are classified as their labels say, `[B]`."""
    with torch.no_grad():
        return network(images).argmax(1) == labels
