"""What is typed for `keras-free-adv evaluate`."""

from absl import flags

from keras_free_adv.command_line.command import Command
from keras_free_adv.command_line.commands.shared_flags import (
    DATA,
    MODEL,
    define_ball,
    define_data,
    define_value_range,
    define_verbose,
)

ATTACKS = (
    *("fgsm", "pgd20", "pgd100", "cw100", "pgd20x10", "pgd50x10"),
    *("apgd_ce", "apgd_dlr", "apgd_t", "fab_t", "square"),
    *("autoattack", "autoattack_plus", "autoattack_rand"),
)


def _define(values: flags.FlagValues) -> None:
    define_ball(values)
    flags.DEFINE_list(
        "attacks",
        "standard",
        "With commas between: standard (pgd20 and autoattack), paper (the columns of "
        f"the paper's table), or any of {', '.join(ATTACKS)}.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "examples",
        1000,
        "Images to attack: the first, or of a folder some of each class in turn.",
        lower_bound=1,
        flag_values=values,
    )
    define_data(values)
    define_value_range(values)
    flags.DEFINE_string(
        "output",
        None,
        "The report's page, NAME.html, with NAME.json and NAME.md beside it; beside "
        "the model, if unset.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "search_dtype",
        "float32",
        ["float32", "bfloat16", "float16"],
        "What attacks search in: half precision is faster where the device is made "
        "for it; each verdict is still the model's own.",
        flag_values=values,
    )
    flags.DEFINE_bool("open", False, "Open the page in a browser.", flag_values=values)
    define_verbose(values)


COMMAND = Command(
    name="evaluate",
    summary="measures how robust a model is on your images",
    arguments=("MODEL", "[DATA]"),
    about="Attacks a model, prints its accuracy under each attack, and writes a "
    "page that says what it means.\n\n"
    f"{MODEL}\n\n{DATA}",
    examples=(
        "keras-free-adv evaluate my.keras photos/test --epsilon=8/255",
        "keras-free-adv evaluate digits_free digits --attacks=pgd20",
        "keras-free-adv evaluate runs/digits_free8 --attacks=autoattack",
    ),
    define=_define,
    interrupted="The same command goes on after the last attack that was finished.",
)
