"""How many ImageNet-sized JPEGs a second this machine decodes and augments.

    python benchmarks/input_pipeline.py

It makes a set of 500 x 375 JPEGs with TFDS, and reads it in turns: with
`datasets.load(augment="standard")`, which decodes no more than the window of each, and
as usually written, whole images decoded and then cut. Both draw windows, resize to
224 x 224 and flip. Free training needs an image once for m updates: a GPU that makes U
updates of B images a second asks for U * B / m of them.
"""

import tempfile
import time

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import app, flags
from timing import table

from keras_free_adv import datasets
from keras_free_adv.datasets.augmentation import random_window

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 512, "Images in the set.", 1)
flags.DEFINE_integer("batch_size", 128, "Images in a minibatch.", 1)
flags.DEFINE_integer("rounds", 5, "Passes of each.", 1)


class BenchmarkPictures(tfds.core.GeneratorBasedBuilder):
    """Smooth noise, which JPEG makes about as large as a photo."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        generator = np.random.default_rng(0)
        for number in range(FLAGS.images):
            coarse = generator.uniform(0, 255, (1, 60, 80, 3))
            fine = generator.normal(0, 8, (375, 500, 3))
            image = tf.image.resize(coarse, (375, 500), "bicubic")[0].numpy() + fine
            image = np.clip(image, 0, 255).astype("uint8")
            yield number, {"image": image, "label": number % 10}


def as_usually_written(data_dir):
    """The whole image is decoded, and a window of it cut."""

    def augmented(example, key):
        image = tf.io.decode_jpeg(example["image"], 3, dct_method="INTEGER_ACCURATE")
        top, left, height, width = random_window(tf.shape(image), key)
        window = image[top : top + height, left : left + width]
        pixels = tf.clip_by_value(tf.image.resize(window, (224, 224)) / 255, 0, 1)
        return tf.image.stateless_random_flip_left_right(pixels, key), example["label"]

    data = tfds.load(
        "benchmark_pictures",
        split="train",
        data_dir=data_dir,
        shuffle_files=True,
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    keys = tf.data.Dataset.random(seed=0).batch(2)
    data = tf.data.Dataset.zip(data.cache().shuffle(FLAGS.images), keys)
    data = data.map(augmented, num_parallel_calls=tf.data.AUTOTUNE)
    return data.batch(FLAGS.batch_size).prefetch(tf.data.AUTOTUNE)


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        BenchmarkPictures(data_dir=folder).download_and_prepare()
        pipelines = {
            "decoded whole": as_usually_written(folder),
            "datasets.load": datasets.load(
                "benchmark_pictures",
                split="train",
                batch_size=FLAGS.batch_size,
                augment="standard",
                data_dir=folder,
            ),
        }
        seconds = {name: [] for name in pipelines}
        for number in range(FLAGS.rounds + 1):  # the first fills the caches
            for name, data in pipelines.items():
                begin = time.perf_counter()
                for _ in data:
                    pass
                if number:
                    seconds[name].append(time.perf_counter() - begin)
    print(f"{FLAGS.images} JPEGs of 500 x 375, to 224 x 224")
    print(table(seconds, "decoded whole", "a pass"))
    for name, times in seconds.items():
        print(f"{name}: {FLAGS.images / min(times):.0f} images a second, at best")


if __name__ == "__main__":
    app.run(main)
