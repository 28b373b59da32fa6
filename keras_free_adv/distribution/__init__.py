"""Several devices and machines with `tf.distribute`; one concept a file."""

__all__: list[str] = []  # nothing here is for users
