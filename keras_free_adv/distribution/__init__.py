"""Several devices and machines with `tf.distribute`; one concept a file."""
