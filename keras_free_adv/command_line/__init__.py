"""The command `keras-free-adv`, also `python -m keras_free_adv`.

`commands` has what a user can type, `main` runs it. Of the other modules each has the
work of a command, or what several need; they import Keras, which takes seconds, so they
are imported when they are run.
"""
