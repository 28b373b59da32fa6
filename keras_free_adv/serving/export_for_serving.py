"""Exports a trained model to a folder for TensorFlow Serving."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_free_adv import files, validation
from keras_free_adv.distribution import workers
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.recipes import Recipe
from keras_free_adv.serving import asset_files
from keras_free_adv.serving.agreement import check_agreement, sample_requests
from keras_free_adv.serving.backend import require_tensorflow_to_export
from keras_free_adv.serving.from_model import served_classifier
from keras_free_adv.serving.signatures import ServedClassifier
from keras_free_adv.serving.warm_up import import_protos, write_warm_up_requests
from keras_free_adv.version import __version__

# TensorFlow Serving holds them in 64 bits.
_LAST_VERSION = 2**63 - 1
# Errors of the disk, of which TensorFlow keeps only the text.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
# Operations that call Python.
_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


def export_for_serving(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    version: int | None = None,
    class_names: Any = None,
    image_size: int | None = None,
    value_range: tuple[float, float] | None = None,
    from_logits: bool | str = "auto",
    predicts: str = "auto",
    recipe: Recipe | dict[str, Any] | None = None,
    report: RobustnessReport | None = None,
) -> str:
    """Publishes a classifier for TensorFlow Serving, as `path/<version>`.

    Of an adversarially trained model only the model inside is exported. It has three
    signatures, for any number of images at a time:

    - `serving_default`: `images`, float32 `[B, height, width, channels]` in
      `value_range`;
    - `serve_uint8`: `images`, uint8, from 0 to 255 whatever `value_range` is;
    - `serve_bytes`: `image_bytes`, JPEG or PNG files `[B]`, decoded, cropped and
      resized in the graph. Over REST each is `{"b64": "..."}`.

    Each returns `probabilities` `[B, classes]` (the model's own, if it ends with a
    softmax or sigmoids), and `class_ids`, `class_names` and `top_probabilities` of the
    five likeliest classes, the likeliest first. Images of a wrong shape, NaN, pixels
    outside the range, an empty batch, damaged files, and images above 33 megapixels get
    an error that names the input.

    Class names, pixel range, epsilon, recipe and report travel as files in `assets`.
    Requests that warm a server up are in `assets.extra`.

    The version is loaded and compared with the model, then published by a rename: a
    server that polls `path` finds all of it, or nothing.

    Args:
        model: a built classifier, of one batch of images of 1 or 3 channels.
        path: the folder of all versions; its name is the server's name of the model.
        version: a whole number above 0; None for the one after the latest.
        class_names: a string for each class, in the order of their numbers; None to
            name them "0", "1", ...
        image_size: the `image_size` of `datasets.load`, for a model that was trained on
            images of varying size: encoded images are cropped and resized as in
            training. None for a model that was trained on images of one size: of an
            encoded image of any other size the largest central window of the same
            aspect ratio is resized.
        value_range: lowest and highest pixel value; None for that of the adversarial
            training, or that of a plain model's first layers, else (0, 1); see
            `keras_free_adv.pixel_scale`.
        from_logits: whether the model's outputs are logits; "auto" finds out.
        predicts: "class" (probabilities with the sum 1) or "labels" (one for each of
            several labels); "auto" decides from outputs and compiled loss.
        recipe: the recipe of the model's training.
        report: the result of `evaluate_robustness` for this model.

    Returns:
        The path of the version.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        TypeError, ValueError: an argument is wrong, or the report is of another model.
        ImportError: the extra `serving` is not installed.
        FileExistsError: the version exists.
        OSError: the version cannot be written; nothing is left behind.
        ExportDisagreesError: the version gives other answers than the model.

    Example:
    >>> import tempfile
    >>> from keras_free_adv import zoo
    >>> network = zoo.small_cnn(classes=10, input_shape=(8, 8, 1))
    >>> path = export_for_serving(network, tempfile.mkdtemp())
    >>> import tensorflow as tf
    >>> served = tf.saved_model.load(path).signatures["serve_uint8"]
    >>> served(images=tf.zeros((2, 8, 8, 1), tf.uint8))["class_names"].shape
    TensorShape([2, 5])
    """
    require_tensorflow_to_export("export_for_serving")
    import_protos()
    served = served_classifier(
        model,
        class_names=class_names,
        image_size=image_size,
        value_range=value_range,
        from_logits=from_logits,
        predicts=predicts,
    )
    plain_recipe = asset_files.check_recipe(recipe)
    report = asset_files.check_report(report, served)
    parent = _checked_path(path, version)
    _check_strategy(model)
    texts = asset_files.asset_files(served, model, plain_recipe, report, _versions())

    def write(folder: Path) -> None:
        with _raising_os_errors():
            _save(served, texts, folder)
            _check_needs_no_python(folder)
            requests = sample_requests(served, images=1)
            write_warm_up_requests(folder, parent.resolve().name, requests)
        check_agreement(folder, served)

    return str(files.write_version(parent, write, version))


def _checked_path(path: Any, version: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"Argument `path` must be a path. Received: path={path!r} (of type "
            f"{type(path).__name__})."
        )
    if not str(path) or "\0" in str(path):
        raise ValueError(
            "Argument `path` must be the folder of all versions. Received: "
            f"path={str(path)!r}."
        )
    if "://" in str(path):
        raise ValueError(
            "Argument `path` must be a folder of this machine: only there a version "
            f"can be published by a rename. Received: path={str(path)!r}. Export to a "
            "folder, and copy the version from there."
        )
    if version is not None:
        version = validation.positive_integer("version", version, most=_LAST_VERSION)
        if (Path(path) / str(version)).exists():
            raise FileExistsError(
                f"Argument `version` must not be there yet. Received: "
                f"version={version}, and {str(Path(path) / str(version))!r} exists. "
                "Pass None for the one after the latest."
            )
    return Path(path)


def _check_strategy(model: keras.Model) -> None:
    if tf.distribute.has_strategy():
        raise ValueError(
            "Argument `model` must be exported outside of `strategy.scope()`. "
            f"Received: a call within one of {tf.distribute.get_strategy()}."
        )
    if workers.many_workers(workers.strategy_of(model)):
        raise ValueError(
            "Argument `model` must be of one process. Received: a model of a "
            "MultiWorkerMirroredStrategy. Call model.save(path) on all workers, and "
            "export keras.models.load_model(path) in a process of its own."
        )


@contextlib.contextmanager
def _raising_os_errors() -> Iterator[None]:
    """Turns TensorFlow's errors into OSErrors, with their numbers."""
    try:
        yield
    except tf.errors.OpError as error:
        text = error.message
        numbers = [number for number in _DISK_ERRORS if os.strerror(number) in text]
        raise OSError(*numbers[:1], text) from error


def _save(served: ServedClassifier, texts: dict[str, str], folder: Path) -> None:
    module = tf.Module()
    module.variables_served = [one.value for one in served.network.variables]
    with tempfile.TemporaryDirectory() as beside:
        module.assets = asset_files.as_assets(texts, Path(beside) / "assets")
        try:
            tf.saved_model.save(
                module,
                str(folder),
                signatures=served.signatures(),
                options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
            )
        except AssertionError as error:  # TensorFlow's own
            raise ValueError(
                "Argument `model` must hold all it needs as weights. Received: "
                f"{served.network.name!r}, in which a layer has a tf.Variable, a table "
                "or another TensorFlow resource. Use `self.add_weight`, or a "
                "Keras layer such as keras.layers.IntegerLookup."
            ) from error


def _check_needs_no_python(folder: Path) -> None:
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    found = sorted({node.name for node in nodes if node.op in _PYTHON})
    if found:
        raise ValueError(
            "Argument `model` must not call Python functions: a server has no Python. "
            f"Received: a model that does, in {found}. Write them with keras.ops."
        )


def _versions() -> dict[str, str]:
    return {
        "keras_free_adv": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }
