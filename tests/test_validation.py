import numpy as np
import pytest

from keras_free_adv import PGDAttack, validation

ANSWERS = (True, False, "auto")
VERBOSE = ("auto", 0, 1, 2)


@pytest.mark.parametrize(
    ("value", "choices", "expected"),
    [
        (True, ANSWERS, True),
        (np.True_, ANSWERS, True),
        (1, ANSWERS, True),
        (0.0, ANSWERS, False),
        (np.array(False), ANSWERS, False),
        (np.str_("auto"), ANSWERS, "auto"),
        (1, VERBOSE, 1),
        (True, VERBOSE, 1),
        (np.int64(2), VERBOSE, 2),
    ],
)
def test_the_choice_is_returned_that_the_value_equals(value, choices, expected):
    found = validation.one_of("x", value, choices)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "value", [2, None, "yes", [True], np.array([1, 1]), np.nan], ids=str
)
def test_what_equals_no_choice_is_refused(value):
    with pytest.raises(ValueError, match=r"`x` must be one of \[True, False, 'auto'"):
        validation.one_of("x", value, ANSWERS)


@pytest.mark.parametrize("said", [np.True_, 1])
def test_from_logits_of_another_type_is_not_ignored(said):
    assert PGDAttack(0.1, from_logits=said).from_logits is True
