"""Makes the sample of CIFAR-10 in the package: the first ten test images of each class.

python benchmarks/make_cifar10_sample.py
"""

import numpy as np
import tensorflow_datasets as tfds

from keras_free_adv import files
from keras_free_adv.datasets.sources import CIFAR10_SAMPLE

images, labels = tfds.as_numpy(
    tfds.load("cifar10", split="test", batch_size=-1, as_supervised=True)
)
firsts = np.sort(np.concatenate([np.flatnonzero(labels == c)[:10] for c in range(10)]))
with files.atomic_write(CIFAR10_SAMPLE) as path, open(path, "wb") as file:
    np.savez_compressed(file, images=images[firsts], labels=labels[firsts])
print(f"{len(firsts)} images, {CIFAR10_SAMPLE.stat().st_size:,} bytes")
