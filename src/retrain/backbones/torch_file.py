"""Reads the tensors in a `.pth` file of PyTorch before version 1.6, without PyTorch and without running what is in it.

Such a file is a row of pickles, each a program for a stack machine: a magic number, the version, the sizes of numbers,
the tensors by name, and the keys of their storages. Behind them lies each storage: its length as int64 and its numbers.
Here, operations that build plain values are carried out, the two calls that such a file needs stand for a dictionary
and a tensor, and everything else is refused. Nothing in the file is ever imported or called.
"""

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.errors import BackboneError, first_line

_VERSION = 1001
_HEADER = [
    0x1950A86A20F9469CFC6C,
    _VERSION,
    {"protocol_version": _VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}},
]
_DICTIONARY, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_DTYPES: dict[str, np.dtype[Any]] = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
_COUNT = np.dtype("<i8")


@dataclass(frozen=True)
class _Name:
    """What a pickle would import and call."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """Numbers that lie behind the pickles."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A part of a storage: where its first number lies, and how far apart those along each axis do."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Return the tensors in a `.pth` file, float32 or int64, by their names; they share the memory of `data`.

    Args:
        data: The content of the file.
        name: The file, for errors.

    Raises:
        BackboneError: It is damaged, or holds anything but named tensors.
    """
    try:
        file = io.BytesIO(data)
        machine = _Machine()
        if [machine.run(file) for _ in _HEADER] != _HEADER:
            raise ValueError("it does not begin as such a file")
        state, keys = machine.run(file), machine.run(file)
        numbers = _numbers(data, file.tell(), [machine.storages[key] for key in keys])
        return {tensor_name: _array(tensor, numbers) for tensor_name, tensor in state.items()}
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise BackboneError(f"{name} is no plain file of PyTorch tensors: {first_line(error)}.") from error


def _numbers(data: bytes, position: int, storages: list[_Storage]) -> dict[str, np.ndarray]:
    """Return the numbers of each storage by its key; they lie one after the other from a position on."""
    found: dict[str, np.ndarray] = {}
    for storage in storages:
        (count,) = np.frombuffer(data, _COUNT, 1, position).tolist()
        if count != storage.count:
            raise ValueError(f"a storage has {count} numbers, and {storage.count} were announced")
        position += _COUNT.itemsize
        found[storage.key] = np.frombuffer(data, storage.dtype, count, position)
        position += found[storage.key].nbytes
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes lie behind the last tensor")
    return found


def _array(tensor: Any, numbers: dict[str, np.ndarray]) -> np.ndarray:
    if not isinstance(tensor, _Tensor):
        raise ValueError("it holds more than tensors")
    if tensor.storage.key not in numbers:
        raise ValueError("the numbers of a tensor are missing")
    flat = numbers[tensor.storage.key][tensor.offset :]
    strides = [stride * flat.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)


class _Machine:
    """Carries out pickles that build plain values and tensors; `storages` are those that they named."""

    def __init__(self) -> None:
        self.storages: dict[str, _Storage] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        """Return the value of the pickle that the file goes on with.

        Raises:
            ValueError: It is damaged or needs an operation that is not allowed; or a TypeError, a LookupError.
        """
        self._stack, self._marks, self._memo = [], [], {}
        for operation, argument, _ in pickletools.genops(file):
            if operation.name == "STOP":
                break
            if operation.name not in _OPERATIONS:
                raise ValueError(f"the operation {operation.name} is not allowed in it")
            _OPERATIONS[operation.name](self, argument)
        (value,) = self._stack
        return value

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def push_name(self, text: str) -> None:
        if text not in (_DICTIONARY, _TENSOR, *_DTYPES):
            raise ValueError(f"it would call {text.replace(' ', '.')}")
        self.push(_Name(text))

    def push_tuple(self, count: int | None) -> None:
        self.push(tuple(self._since_mark() if count is None else self._last(count)))

    def store(self, number: int) -> None:
        self._memo[number] = self._stack[-1]

    def recall(self, number: int) -> None:
        self.push(self._memo[number])

    def set_items(self, count: int | None) -> None:
        pairs = self._since_mark() if count is None else self._last(count)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str):  # which also keeps nested tuples from being hashed
                raise ValueError("a key is no text")
            self._top(dict)[key] = value

    def extend(self, count: int | None) -> None:
        values = self._since_mark() if count is None else self._last(count)
        self._top(list).extend(values)

    def push_storage(self, _: None) -> None:
        word, kind, key, device, count, view = self._stack.pop()
        if (word, device, view) != ("storage", "cpu", None) or not isinstance(key, str) or not _is_count(count):
            raise ValueError("a storage is of an unknown kind")
        storage = _Storage(key, _DTYPES[kind.text], count)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError("a storage is announced twice")
        self.push(storage)

    def call(self, _: None) -> None:
        name, arguments = self._last(2)
        if name == _Name(_DICTIONARY) and arguments == ():
            self.push({})
        elif name == _Name(_TENSOR):
            self.push(_tensor(*arguments))
        else:
            raise ValueError("it calls what is no function")

    def drop_attributes(self, _: None) -> None:
        """Leave out what PyTorch notes in the attributes of its dictionary: a version for each layer."""
        self._last(1)
        self._top(dict)

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise ValueError(f"it takes a {type(self._stack[-1]).__name__} for a {kind.__name__}")
        return self._stack[-1]

    def _last(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise ValueError("its stack is empty")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, needs_gradient: Any, hooks: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or needs_gradient is not False or hooks != {}:
        raise ValueError("a tensor is of an unknown kind")
    if not all(map(_is_count, (offset, *shape, *strides))) or 0 in shape:
        raise ValueError("a tensor is of no size")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if last >= storage.count or math.prod(shape) > storage.count:
        raise ValueError("a tensor lies outside of its storage")
    return _Tensor(storage, offset, shape, strides)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"), _Machine.push),
    "NONE": _Machine.push,  # whose argument is None
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push_tuple(1),
    "TUPLE2": lambda machine, _: machine.push_tuple(2),
    "TUPLE3": lambda machine, _: machine.push_tuple(3),
    "TUPLE": _Machine.push_tuple,
    "MARK": _Machine.mark,
    "BINPUT": _Machine.store,
    "LONG_BINPUT": _Machine.store,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "SETITEM": lambda machine, _: machine.set_items(2),
    "SETITEMS": _Machine.set_items,
    "APPEND": lambda machine, _: machine.extend(1),
    "APPENDS": _Machine.extend,
    "GLOBAL": _Machine.push_name,
    "BINPERSID": _Machine.push_storage,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.drop_attributes,
}
