"""What is typed for `keras-free-adv demo`."""

from absl import flags

from keras_free_adv.command_line.command import Command


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "output", "robustness-demo.html", "The page.", flag_values=values
    )
    flags.DEFINE_bool("open", True, "Open the page in a browser.", flag_values=values)
    flags.DEFINE_string("epsilon", "8/255", "As of evaluate.", flag_values=values)


COMMAND = Command(
    name="demo",
    summary="attacks a natural and a robust model on photographs",
    arguments=(),
    about="Attacks two pretrained models on 100 photographs that are in this "
    "package, prints what they withstand, and writes a page with pictures. It "
    "needs no internet connection, and less than a minute.",
    examples=("keras-free-adv demo",),
    define=_define,
    interrupted="Nothing was written.",
)
