"""Free adversarial training in plain PyTorch: a program of its own, to be timed.

    python -m peers.free_training WIDTH BATCH_SIZE PRECISION THREADS [DEVICE]

It reads how many updates to make from standard input, a number a line, and prints the
seconds that each took, as JSON. Between two lines it sleeps. DEVICE is "cpu" or "cuda":
there the network is compiled, nothing waits for the device between updates, and the one
number that is printed is their mean.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional

EPSILON, REPLAYS = 8 / 255, 8


class Block(nn.Module):
    """Activation before each convolution; the shortcut sees the activated input."""

    def __init__(self, before: int, filters: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, filters, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or before != filters:
            self.shortcut = nn.Conv2d(before, filters, 1, stride, bias=False)

    def forward(self, x):
        activated = functional.relu(self.norm1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        y = self.conv1(activated)
        y = self.conv2(functional.relu(self.norm2(y), inplace=True))
        return y.add_(shortcut)


class PreActResNet18(nn.Module):
    """Of He et al. (2016), for CIFAR, with any width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        blocks, before = [], width
        for stage in range(4):
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(Block(before, width * 2**stage, stride))
                before = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(before)
        self.linear = nn.Linear(before, 10)

    def forward(self, x):
        x = functional.relu(self.norm(self.blocks(self.conv(x))), inplace=True)
        return self.linear(x.mean((2, 3)))


def updates(width: int, batch_size: int, precision: str, device: str):
    """Makes one update a time it is asked for the next."""
    torch.manual_seed(0)
    network = PreActResNet18(width).to(device, memory_format=torch.channels_last)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    forward = torch.compile(network) if device == "cuda" else network
    shape = (batch_size, 3, 32, 32)
    delta = torch.zeros(shape, device=device)
    delta = delta.to(memory_format=torch.channels_last)
    half = torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
    while True:
        images = torch.rand(shape, device=device)
        images = images.to(memory_format=torch.channels_last)
        labels = torch.randint(0, 10, (batch_size,), device=device)
        for _ in range(REPLAYS):
            delta.requires_grad_(True)
            with half:
                logits = forward((images + delta).clamp(0, 1))
            loss = functional.cross_entropy(logits.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            gradient, delta.grad = delta.grad, None
            optimizer.step()
            with torch.no_grad():
                delta.requires_grad_(False)
                delta.add_(gradient.sign_(), alpha=EPSILON).clamp_(-EPSILON, EPSILON)
            yield loss


def timed(making, count: int, device: str) -> list[float]:
    """Seconds of each update, or their mean where the device works on its own."""
    if device == "cuda":
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            next(making)
        torch.cuda.synchronize()
        return [(time.perf_counter() - begin) / count]
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        next(making).item()
        seconds.append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    width, batch_size, precision, threads, *device = sys.argv[1:]
    device = device[0] if device else "cpu"
    torch.set_num_threads(int(threads))
    making = updates(int(width), int(batch_size), precision, device)
    for line in sys.stdin:
        print(json.dumps(timed(making, int(line), device)), flush=True)


if __name__ == "__main__":
    main()
