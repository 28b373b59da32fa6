"""The accuracy of a classifier, natural and under attack."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_free_adv import validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.half_precision import FLOAT32, SEARCH_DTYPES
from keras_free_adv.data.labelled_batches import LabelledBatches
from keras_free_adv.distribution.replicas import Replicas
from keras_free_adv.evaluation.checked_attacks import (
    attacks_of_training,
    check_seeds,
    checked_attacks,
    one_value_range,
)
from keras_free_adv.evaluation.evaluation import Evaluation
from keras_free_adv.evaluation.examples import Examples
from keras_free_adv.evaluation.finished_stages import check_path
from keras_free_adv.evaluation.progress import Progress
from keras_free_adv.evaluation.report_of import report_of
from keras_free_adv.evaluation.report_warnings import warnings_of
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.user_warnings import warn_user


def evaluate_robustness(
    model: keras.Model,
    data: Any,
    attacks: Attack | Sequence[Attack] | None = None,
    *,
    batch_size: int | None = None,
    max_examples: int | None = None,
    verbose: Any = "auto",
    resume: Any = None,
    search_dtype: str = FLOAT32,
) -> RobustnessReport:
    """Measures natural accuracy, and accuracy under each attack.

    An example counts as robust to an attack only if it is classified correctly
    without one, and every restart fails: stricter than the paper's protocol, which
    picks the restart of largest loss. An example that is misclassified (of several
    labels, in all) is never attacked again: the others take its place, so that batches
    stay full. Random numbers follow from (seed, number of the example, restart), so the
    result does not depend on the batch size, up to float rounding. Under a
    MirroredStrategy each replica attacks its share; on many machines each worker, and
    every one of them has to make the call, with the same data and attacks with a seed:
    all get the report.

    Args:
        model: the classifier, `[B, ...]` to `[B, C]` (adversarially trained or not).
        data: (images, labels); or a tf.data.Dataset or PyDataset of minibatches of
            them, which is streamed, once for each attack unless it fits in 2 GiB.
            Images lie in the attacks' `value_range`, or if they have none in that of
            the model (see `keras_free_adv.pixel_scale`). The report's page takes class
            names from `data.class_names`, which `datasets.load` and Keras'
            `image_dataset_from_directory` set.
        attacks: an attack, or a list of attacks of different names; None for PGD-20
            and AutoAttack, with the epsilon and norm that an adversarial model was
            trained for.
        batch_size: examples under attack at once, on each replica; None for the
            dataset's own (of its first minibatch), 128 for arrays.
        max_examples: evaluate the first so many examples only.
        verbose: 0 for silence, 1 for a progress bar; "auto" is 1.
        resume: path of a file that keeps each attack's result as soon as it is
            finished (of an `AutoAttack` each part's). The same call after an
            interruption goes on from there. The attacks need a `seed` then. A file of
            another model (weights, architecture, dtypes, natural predictions) or of
            other data, or with another `search_dtype`, is refused.
        search_dtype: with "bfloat16" or "float16" the attacks search with the model's
            inner layers in half precision: faster on devices made for it. The verdict
            stays the model's: an example falls only if the model itself, as it
            computes natural accuracy, errs on the adversarial image. Images, the first
            and the last layer with weights, and the losses stay in float32, as do
            attacks without gradients, such as Square. Functional and Sequential models
            only, that predict one class and draw no random numbers, and that no other
            thread uses meanwhile.

    Returns:
        A `RobustnessReport`.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> images = np.random.rand(20, 4, 4, 1).astype("float32")
    >>> labels = np.random.randint(0, 3, 20)
    >>> report = evaluate_robustness(
    ...     network, (images, labels), [PGDAttack(epsilon=0.1, steps=5, seed=0)],
    ...     verbose=0)
    >>> list(report.accuracy)
    ['natural', 'pgd5']
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Argument `model` must be a keras.Model. Received: {type(model).__name__}."
        )
    attacks = checked_attacks(
        attacks_of_training(model) if attacks is None else attacks
    )
    verbose = validation.one_of("verbose", verbose, ("auto", 0, 1, 2))
    validation.one_of("search_dtype", search_dtype, SEARCH_DTYPES)
    if resume is not None:
        check_path(resume)
        check_seeds(attacks, "Argument `resume` needs")
    replicas = Replicas(model)
    if replicas.workers > 1:
        check_seeds(attacks, "Many workers need")
    batches = LabelledBatches(
        data,
        batch_size=batch_size,
        max_examples=max_examples,
        value_range=one_value_range(attacks, model),
    )
    evaluation = Evaluation(
        model,
        replicas,
        Examples(batches),
        batch_size,
        Progress(batches.examples, verbose),
        getattr(data, "class_names", None),
        search_dtype,
    )
    with replicas.explaining_lost_worker():
        stages, settings = evaluation.stages(attacks, batch_size, max_examples, resume)
    report = report_of(stages, attacks, model, evaluation, settings)
    report.warnings += warnings_of(report, attacks, evaluation.probes)
    # A part of an ensemble and the same attack on its own have the same caveat.
    report.warnings = list(dict.fromkeys(report.warnings))
    for warning in report.warnings:
        warn_user(warning)
    return report
