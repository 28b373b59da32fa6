"""What a user may pass, and what the library may do with it."""

import json
import os
import re

import hypothesis
import keras
import numpy as np
from hypothesis import strategies as st

# The long run, by hand: PROPERTY_SCALE=25 python -m pytest tests/reliability/test_any*
SCALE = int(os.environ.get("PROPERTY_SCALE", "1"))


def examples(count):
    """Settings of a property test: so many examples, the same ones each time in CI."""
    return hypothesis.settings(
        max_examples=count * SCALE,
        derandomize=SCALE == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


class Unknown:
    """An object of the user's own."""

    def __repr__(self):
        return "<Unknown>"


NUMBERS = st.one_of(
    st.integers(-3, 9),
    st.sampled_from([-(2**63), 2**31, 2**63 - 1, 2**64, 10**400]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e-45, 1e-12, 0.03, 1.0, 8.0, 255.0, 1e38, 1e300]),
)
NUMPY = st.sampled_from(
    [
        *(np.float16(0.1), np.float32(0.1), np.float64(0.1), np.float32("nan")),
        *(np.int64(3), np.uint8(2), np.int32(-1), np.bool_(True), np.bool_(False)),
        *(np.array(0.1), np.array(2), np.array([0.1]), np.array([[1, 2]])),
        *(np.array("linf"), np.str_("linf"), np.datetime64("2026-01-01"), np.array([])),
    ]
)
THINGS = st.one_of(
    st.sampled_from(
        [None, True, False, "", "linf", "auto", "8/255", b"l2", 1j, object]
    ),
    st.sampled_from([Unknown(), keras, len, float, slice(3), range(3), {1}, ...]),
    st.lists(st.integers(0, 3), max_size=3),
    st.tuples(st.floats(), st.floats()),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.text(max_size=3),
)
ANYTHING = st.one_of(NUMBERS, NUMPY, THINGS)


def clear(error):
    """Whether a person can tell from an error what to change."""
    kinds = ValueError, TypeError, RuntimeError
    named = re.search(r"[Aa]rguments? `\w+", str(error))
    return isinstance(error, kinds) and named is not None


def made(make, **arguments):
    """What a call makes, or None if it refuses with a clear error."""
    try:
        return make(**arguments)
    except Exception as error:
        if clear(error):
            return None
        raise AssertionError(
            f"{make} of {arguments}: {type(error).__name__}: {error}"
        ) from error


def check_config(thing, saved=True):
    """Whether it is what its configuration says, in JSON."""
    config = thing.get_config()
    again = type(thing).from_config(config).get_config()
    assert json.dumps(again, default=str) == json.dumps(config, default=str)
    if saved:
        serialized = json.dumps(keras.saving.serialize_keras_object(thing))
        assert "NaN" not in serialized
        assert "Infinity" not in serialized
        keras.saving.deserialize_keras_object(json.loads(serialized))
