"""A network that counts the examples going forward and backward through it."""

from torch import Tensor, nn


class Counted(nn.Module):
    """The network, unchanged; `forward_passes` and `backward_passes` count examples."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()
        self.reset()

    def reset(self) -> None:
        """Begins again at zero."""
        self.forward_passes = 0
        self.backward_passes = 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, C]`."""
        logits = self.network(images)
        self.forward_passes += len(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)
