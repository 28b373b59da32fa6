"""What is typed for `keras-free-adv train`."""

from absl import flags

from keras_free_adv.command_line.command import Command
from keras_free_adv.command_line.commands.shared_flags import (
    DATA,
    define_data,
    define_verbose,
)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "recipe", None, "The training; `recipes` lists them.", flag_values=values
    )
    flags.DEFINE_multi_string(
        "set",
        [],
        "KEY=VALUE: changes a setting of the recipe; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "show", False, "Print the settings, and stop.", flag_values=values
    )
    flags.DEFINE_string(
        "weights",
        None,
        "MODEL: train this network further, and not the recipe's. For other classes it "
        "gets a new last layer.",
        flag_values=values,
    )
    define_data(values, trains=True)
    flags.DEFINE_bool(
        "deterministic",
        False,
        "Deterministic operations: repeatable bit for bit on a GPU too; slower.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "Folder of the run; if unset runs/RECIPE, with -changed, DATA and -seedN where "
        "so.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "strategy",
        "single",
        ["single", "mirrored", "multi_worker"],
        "One device, all GPUs of this machine, or all machines of TF_CONFIG.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "monitor_every",
        0,
        "PGD-20 each so many epochs; 0 for never.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "monitor_examples",
        500,
        "Test images of --monitor_every.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "test_examples",
        1000,
        "Test images that are attacked in the end; 0 for none.",
        lower_bound=0,
        flag_values=values,
    )
    define_verbose(values)


COMMAND = Command(
    name="train",
    summary="trains a robust model, on your images or by a recipe of the paper",
    arguments=("[DATA]",),
    about="Trains, and measures the robustness. The folder of the run holds "
    "settings.json (all settings and versions), history.json, model.keras (plain "
    "Keras, float32), and of a data set with a test split the report. A run that "
    "was interrupted, even killed, goes on when the same command is given "
    "again.\n\n"
    f"Without DATA the recipe's is loaded. {DATA}\n\n"
    "Keras' backend is that of KERAS_BACKEND; --strategy is for TensorFlow.",
    examples=(
        "keras-free-adv train photos/train --recipe=photos",
        "keras-free-adv train photos/train --recipe=photos --weights=my.keras",
        "keras-free-adv train --recipe=digits_free8",
        "keras-free-adv train --recipe=cifar10_small_free8 --set replays=4",
    ),
    define=_define,
    interrupted="The same command goes on after the last epoch that was finished.",
)
