"""The report of an evaluation that is finished."""

from typing import Any

import keras
import numpy as np

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.half_precision import FLOAT32
from keras_free_adv.evaluation.evaluation import Evaluation, settings_of
from keras_free_adv.evaluation.finished_stages import Stage
from keras_free_adv.evaluation.packing import all_standing
from keras_free_adv.evaluation.predicted_classes import PredictedClasses, channels_last
from keras_free_adv.evaluation.robustness_report import NATURAL, RobustnessReport


def report_of(
    stages: dict[str, dict[str, Stage]],
    attacks: list[Attack],
    model: keras.Model,
    evaluation: Evaluation,
    settings: dict[str, Any],
) -> RobustnessReport:
    """The report.

    Args:
        stages: each attack's name, and "natural", to its stages.
        attacks: the attacks.
        model: the model.
        evaluation: what is known of model and examples.
        settings: versions, data and devices.
    """
    if settings["search_dtype"] != FLOAT32:
        settings["refuted_claims"] = {
            name: sum(stage.refuted for stage in parts.values())
            for name, parts in stages.items()
            if name != NATURAL
        }
    left = {name: list(parts.values())[-1].standing for name, parts in stages.items()}
    robust = {name: all_standing(standing) for name, standing in left.items()}
    view = next(iter(evaluation.views.values()))
    return RobustnessReport(
        accuracy={name: float(stands.mean()) for name, stands in robust.items()},
        robust=robust,
        worst_case=float(np.logical_and.reduce(list(robust.values())).mean()),
        seconds={
            name: sum(stage.seconds for stage in parts.values())
            for name, parts in stages.items()
        },
        threat_models={
            attack.name: {
                **settings_of(attack, model),
                "logits": evaluation.views[attack.name].source,
                "kind": evaluation.views[attack.name].kind,
            }
            for attack in attacks
        },
        warnings=[
            caveat
            for attack in attacks
            for caveat in attack.caveats(evaluation.views[attack.name])
        ],
        passes={
            name: {
                "forward": sum(stage.forward for stage in parts.values()),
                "backward": sum(stage.backward for stage in parts.values()),
            }
            for name, parts in stages.items()
        },
        stages={
            name: {
                part: float(all_standing(stage.standing).mean())
                for part, stage in parts.items()
            }
            for name, parts in stages.items()
            if len(parts) > 1
        },
        settings=settings,
        label_accuracy=(
            {name: standing.mean(0).tolist() for name, standing in left.items()}
            if view.several_labels
            else {}
        ),
        predicted=_predicted(stages, evaluation),
    )


def _predicted(
    stages: dict[str, dict[str, Stage]], evaluation: Evaluation
) -> PredictedClasses | None:
    """Which classes are predicted; None of a model that predicts several labels."""
    if evaluation.labels is None:
        return None
    last = {name: list(parts.values())[-1] for name, parts in stages.items()}
    images = {
        name: channels_last(stage.images, evaluation.data_format)
        for name, stage in last.items()
        if stage.images is not None
    }
    return PredictedClasses(
        evaluation.labels,
        {n: stage.classes for n, stage in last.items() if stage.classes is not None},
        images.pop(NATURAL),
        images,
        evaluation.class_names,
    )
