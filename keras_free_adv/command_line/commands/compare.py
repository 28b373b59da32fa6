"""What is typed for `keras-free-adv compare`."""

from absl import flags

from keras_free_adv.command_line.command import Command
from keras_free_adv.command_line.commands.shared_flags import (
    DATA,
    define_ball,
    define_data,
    define_verbose,
)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "minutes", "10", "Of training, for each method.", flag_values=values
    )
    flags.DEFINE_list(
        "methods",
        "natural,free,fgsm_rs,pgd7",
        "With commas between: natural, free (m=8; free4 for m=4), fgsm_rs, pgd7, "
        "trades.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "recipe",
        "photos",
        "Whose network and optimizer are used; `recipes` lists them.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "set",
        [],
        "KEY=VALUE: changes a setting of the recipe; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "weights",
        None,
        "MODEL: the network to train further, and not the recipe's.",
        flag_values=values,
    )
    define_ball(values)
    flags.DEFINE_list(
        "attacks", "standard", "As of `evaluate`, in the end.", flag_values=values
    )
    flags.DEFINE_integer(
        "examples", 1000, "Images of TEST to attack.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "epochs",
        10,
        "Parts of a training; after each there is a backup and a point of the curve.",
        lower_bound=1,
        flag_values=values,
    )
    define_data(values, trains=True)
    flags.DEFINE_string(
        "test_split", "test", "Of a data set or an .npz.", flag_values=values
    )
    flags.DEFINE_string(
        "output", None, "Folder; runs/compare-TRAIN if unset.", flag_values=values
    )
    flags.DEFINE_bool("open", False, "Open the page in a browser.", flag_values=values)
    define_verbose(values)


COMMAND = Command(
    name="compare",
    summary="finds out which training makes your network most robust in the time",
    arguments=("TRAIN", "[TEST]"),
    about="Trains a network naturally, by Free training, by FGSM-RS and by 7-PGD "
    "for the same time each: an update of each is timed first, and how many fit "
    "is written down. Then all are attacked. It prints a table with paired tests, "
    "and writes a page. Interrupted, it goes on when the same command is given "
    "again.\n\n"
    "TRAIN and TEST are as DATA of `train` and `evaluate`; of a data set TEST is "
    "its test split.\n\n"
    f"{DATA}",
    examples=(
        "keras-free-adv compare photos/train photos/test --minutes=20",
        "keras-free-adv compare photos/train photos/test --weights=my.keras",
        "keras-free-adv compare digits --recipe=digits_free8 --minutes=0.5",
    ),
    define=_define,
    interrupted="The same command goes on after the last epoch that was finished.",
)
