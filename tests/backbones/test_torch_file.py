"""A `.pth` file is a program from a stranger: tensors are read out of it, and nothing in it is run."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.backbones.torch_file import read_tensors
from retrain.errors import BackboneError

# As PyTorch 1.5 writes them: magic number, version, sizes of numbers; Python's own pickler writes these alike.
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
HEADER = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, SYSTEM))
KINDS = {"<f4": "FloatStorage", "<i8": "LongStorage"}


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def value(plain):
    """Return the operations that push a plain value."""
    return pickle.dumps(plain, 2)[2:-1]


def storage(key, numbers, count=None):
    kind = name("torch", KINDS[numbers.dtype.str])
    words = (value("storage"), kind, value(key), value("cpu"), value(numbers.size if count is None else count), b"N")
    return b"(" + b"".join(words) + b"tQ"


def ordered(pairs=()):
    items = b"".join(value(key) + operations for key, operations in pairs)
    return name("collections", "OrderedDict") + b")R" + b"(" + items + b"u"


def tensor(kept, shape, strides, offset=0, hooks=None):
    parts = (kept, value(offset), value(shape), value(strides), b"\x89", ordered() if hooks is None else hooks)
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + b"".join(parts) + b"tR"


def pickled(operations):
    return b"\x80\x02" + operations + b"."


def blob(numbers):
    return struct.pack("<q", numbers.size) + numbers.tobytes()


def torch_file(state, **storages):
    keys = pickle.dumps(list(storages), 2)
    return HEADER + pickled(state) + keys + b"".join(map(blob, storages.values()))


FLOATS = np.arange(24, dtype="<f4")
COUNT = np.array([7], "<i8")
# The attributes of the dictionary are PyTorch's notes on versions: {'_metadata': {'': {'version': 1}}}.
STATE = ordered(
    [
        ("stem.weight", tensor(storage("a", FLOATS), (2, 3, 4), (12, 4, 1))),
        ("stem.transposed", tensor(storage("a", FLOATS), (4, 3), (1, 4), offset=12)),
        ("stem.count", tensor(storage("b", COUNT), (), ())),
    ]
)
WHOLE = torch_file(STATE + value({"_metadata": {"": {"version": 1}}}) + b"b", a=FLOATS, b=COUNT)


def test_tensors_are_read_with_their_shapes_strides_and_types():
    found = read_tensors(WHOLE, "w.pth")
    assert list(found) == ["stem.weight", "stem.transposed", "stem.count"]
    assert np.array_equal(found["stem.weight"], FLOATS.reshape(2, 3, 4))
    assert np.array_equal(found["stem.transposed"], FLOATS[12:].reshape(3, 4).T)
    assert (found["stem.count"].dtype, found["stem.count"].shape, int(found["stem.count"])) == (np.int64, (), 7)


class Calls:
    """What an attacker pickles: loading it creates a file."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


def attacks(path):
    """Return pickles, each of which creates the file at a path when Python loads it."""
    shell, code = f"touch {path}", f"open({str(path)!r}, 'w')"
    touch, arguments = name("os", "system"), b"(" + value(shell) + b"t"
    by_pickler = {
        f"protocol {protocol}, {where}": pickle.dumps(wrap(attack), protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        for attack in (Calls(os.system, shell),)
        for where, wrap in {
            "alone": lambda each: each,
            "in a dictionary": lambda each: {"stem.weight": each},
            "as a key": lambda each: [each, {"a": (1, each)}],
        }.items()
    }
    return by_pickler | {
        "eval": pickle.dumps(Calls(eval, code), 2),
        "Path.touch": pickle.dumps(Calls(Path.touch, path), 2),
        "INST": pickled(b"(" + value(shell) + b"ios\nsystem\n"),
        "OBJ": pickled(b"(" + touch + value(shell) + b"o"),
        "STACK_GLOBAL": pickled(value("os") + value("system") + b"\x93" + arguments + b"R"),
        "as hooks": pickled(ordered([("w", tensor(storage("a", FLOATS), (1,), (1,), hooks=touch + arguments + b"R"))])),
        "as a storage": pickled(ordered([("w", tensor(touch + arguments + b"R", (1,), (1,)))])),
        "as attributes": pickled(ordered() + touch + arguments + b"R" + b"b"),
        "after the state": pickled(ordered() + touch + arguments + b"R0"),
    }


@pytest.mark.parametrize("attack", attacks(Path("x")))
def test_an_attack_is_refused_before_anything_is_called(tmp_path, attack):
    victim = tmp_path / "called"
    program = attacks(victim)[attack]
    empty = pickle.dumps([], 2)
    for data in (program, HEADER + program + empty, HEADER + pickled(ordered()) + program):
        with pytest.raises(BackboneError, match="w.pth is no plain file of PyTorch tensors"):
            read_tensors(data, "w.pth")
    assert not victim.exists()


def test_the_attacks_are_real(tmp_path):
    """What the test above refuses, Python's own reader runs."""
    pickle.loads(attacks(tmp_path / "called")["protocol 2, alone"])
    assert (tmp_path / "called").exists()


def test_the_error_names_what_would_have_been_called():
    with pytest.raises(BackboneError, match=r"it would call (posix|nt)\.system"):
        read_tensors(HEADER + pickle.dumps(Calls(os.system, "true"), 2), "w.pth")


A = storage("a", FLOATS)


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        (tensor(A, (25,), (1,)), "outside of its storage"),
        (tensor(A, (24,), (1,), offset=1), "outside of its storage"),
        (tensor(A, (2, 2), (23, 1)), "outside of its storage"),
        (tensor(A, (10**9, 10**9), (0, 0)), "outside of its storage"),
        (tensor(A, (2,), (-1,), offset=5), "of no size"),
        (tensor(A, (-2,), (1,)), "of no size"),
        (tensor(A, (2,), (1,), offset=-1), "of no size"),
        (tensor(A, (2, 2), (1,)), "zip"),
        (tensor(A, (True,), (1,)), "of no size"),
        (tensor(value(3), (2,), (1,)), "of an unknown kind"),
        (tensor(A, (2,), (1,), hooks=value({"a": 1})), "of an unknown kind"),
        (value(3), "holds more than tensors"),
        (value([1, 2]), "holds more than tensors"),
        (value({(1, 2): 3}), "a key is no text"),
        (value(1.5), "BINFLOAT is not allowed"),
        (storage("a", FLOATS, count=-1), "of an unknown kind"),
        (storage("a", COUNT), "announced twice"),
        (tensor(storage("c", FLOATS), (24,), (1,)), "numbers of a tensor are missing"),
    ],
)
def test_what_is_not_a_tensor_in_its_storage_is_refused(operations, words):
    pairs = [("first", tensor(A, (24,), (1,))), ("second", operations)]
    with pytest.raises(BackboneError, match=words):
        read_tensors(torch_file(ordered(pairs), a=FLOATS), "w.pth")


def test_numbers_that_are_missing_or_left_over_are_refused():
    state = ordered([("w", tensor(A, (24,), (1,)))])
    for numbers, words in ((FLOATS[:23], "23 numbers, and 24"), (np.append(FLOATS, FLOATS), "48 numbers, and 24")):
        with pytest.raises(BackboneError, match=words):
            read_tensors(torch_file(state, a=numbers), "w.pth")
    with pytest.raises(BackboneError, match="3 bytes lie behind the last tensor"):
        read_tensors(WHOLE + b"abc", "w.pth")
    for end in range(len(WHOLE)):
        with pytest.raises(BackboneError):
            read_tensors(WHOLE[:end], "w.pth")


def tensors_or_line(data):
    """Return the tensors of a file that may be damaged, or the error."""
    try:
        return read_tensors(data, "w.pth")
    except BackboneError as error:
        return str(error)


def tensors_or_refused(data):
    found = tensors_or_line(data)
    if isinstance(found, str):
        assert len(found.splitlines()) == 1
    else:
        assert all(isinstance(array.sum(), np.generic) for array in found.values())


@given(st.binary(max_size=200))
def test_rubbish_is_refused_in_one_line(data):
    tensors_or_refused(data)
    tensors_or_refused(HEADER + data)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=5))
def test_a_damaged_file_ends_in_tensors_or_in_one_line(changes):
    data = bytearray(WHOLE)
    for position, byte in changes:
        data[position] = byte
    tensors_or_refused(bytes(data))


OPERATIONS = [b"(", b")", b"t", b"\x85", b"\x86", b"\x87", b"}", b"]", b"s", b"u", b"a", b"e", b"R", b"b", b"Q", b"N"]
OPERATIONS += [b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"\x88", b"\x89", b"K\x01", value("a"), b"r\xff\xff\xff\x7f"]
OPERATIONS += [name("collections", "OrderedDict"), name("torch._utils", "_rebuild_tensor_v2"), A, b"j\xff\xff\xff\x7f"]


@given(st.lists(st.sampled_from(OPERATIONS), max_size=60))
def test_allowed_operations_in_any_order_end_in_tensors_or_in_one_line(operations):
    tensors_or_refused(torch_file(b"".join(operations), a=FLOATS))
