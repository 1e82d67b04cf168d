"""A snapshot comes back as it was, and nothing else is taken for one."""

import numpy as np
import pytest

from trackside.errors import StateError
from trackside.state import decode, encode


def test_everything_comes_back_bit_for_bit():
    state = {
        "none": None,
        "truth": True,
        "big": 2**80,
        "float": 0.1 + 0.2,
        "nan": float("nan"),
        "text": "héé\n",
        "bytes": b"\0\xff",
        "list": [1, [2.5, "x"]],
        "tuple": (1, (2, "y")),
        "keys": {1: "a", ("p", 2): {"deep": np.arange(3)}},
        "array": np.array([[1.5, -0.0], [np.nan, np.inf]]),
        "bools": np.array([True, False]),
        "times": np.array(["2026-01-01", "NaT"], "datetime64[ns]"),
        "words": np.array(["ab", "c"]),
        "empty": np.empty((0, 4), np.int16),
        "scalar": np.float32(1.25),
        "big_endian": np.array([1, 2], ">i4"),
    }
    back = decode(encode(state))
    assert list(back) == list(state)
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            assert back[name].shape == value.shape
            np.testing.assert_array_equal(back[name], value)
        elif name not in ("nan", "keys"):
            assert back[name] == value
            assert type(back[name]) is type(value)
    assert np.isnan(back["nan"])
    assert back["keys"][1] == "a"
    assert back["keys"]["p", 2]["deep"].tolist() == [0, 1, 2]
    assert np.signbit(back["array"][0, 1])


def test_arrays_can_be_written_after_they_came_back():
    back = decode(encode({"a": np.zeros(3)}))
    back["a"][0] = 1
    assert back["a"].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"net": object()}, r"snapshot\['net'\] is an object, which a snapshot cannot hold"),
        ({"a": {"b": [{1, 2}]}}, r"snapshot\['a'\]\['b'\]\[0\] is a set"),
        ({"a": np.array([object()])}, r"snapshot\['a'\] is an array of object"),
        ({1.5: 0}, r"has the key 1.5; keys are text, integers or tuples"),
        ([1], "must answer a dict, not a list"),
    ],
)
def test_what_does_not_fit_is_named(state, says):
    with pytest.raises(StateError, match=says):
        encode(state)


def test_a_state_that_holds_itself_is_refused():
    loop: dict[str, object] = {}
    loop["me"] = loop
    with pytest.raises(StateError, match="nested deeper than 32"):
        encode(loop)


def test_any_damage_is_noticed():
    good = encode({"a": np.arange(10), "b": "text"})
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x40
        with pytest.raises(StateError):
            decode(bad)
    for length in range(len(good)):
        with pytest.raises(StateError):
            decode(good[:length])
