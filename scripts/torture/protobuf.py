"""Changes protocol buffers without their schema: a tree of numbered fields, written again with right lengths.

That is enough for frozen graphs, SavedModels and ONNX: nodes go, double, change places, take each other as inputs, and
every shape, type and size can become any number.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_NUMBERS = (0, 1, 2, 3, 7, 32, 255, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
_DEEPEST, _LARGEST = 10, 2**18
_OPERATIONS = (
    b"Add Mul MatMul ConcatV2 Pack Fill Range Tile Reshape Shape Identity IdentityN Switch Merge Enter Exit "
    b"NextIteration While StatelessWhile If PartitionedCall PyFunc ReadFile WriteFile Const Placeholder VariableV2 "
    b"Bitcast Cast Pad ResizeBilinear Conv2D AvgPool Softmax Dequantize Loop Scan ConstantOfShape Expand Concat Resize"
).split()


@dataclass
class Field:
    """One field: its number, its kind on the wire, and its value, a list of fields where it is a message."""

    number: int
    wire: int
    value: "int | bytes | list[Field]"


def mutate(
    data: bytes, dice: random.Random, *, text: Callable[[bytes], bytes], leaf: Callable[[bytes], bytes]
) -> bytes:
    """Return a message with one to four of its fields changed; `text` and `leaf` change names and other bytes.

    Raises:
        ValueError: It is no such message.
    """
    tree = parse(data)
    if tree is None:
        raise ValueError("no protocol buffer")
    if dice.random() < 0.06:
        _grow(tree, dice)
    for _ in range(dice.choice((1, 1, 2, 4))):
        _change(tree, dice, text, leaf)
    return serialise(tree)


def parse(data: bytes, depth: int = 0) -> list[Field] | None:
    """Return the fields of a message, None where the bytes are none."""
    found, at = [], 0
    while at < len(data):
        try:
            tag, at = _read_varint(data, at)
            number, wire = tag >> 3, tag & 7
            if not number or number > 10**5 or wire not in (_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES):
                return None
            if wire == _VARINT:
                value, at = _read_varint(data, at)
                found.append(Field(number, wire, value))
                continue
            length = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(wire)
            if length is None:
                length, at = _read_varint(data, at)
        except IndexError:
            return None
        part = data[at : at + length]
        if len(part) < length:
            return None
        at += length
        below = None
        if wire == _LENGTH and depth < _DEEPEST and (not depth or len(part) < _LARGEST) and not _is_name(part):
            below = parse(part, depth + 1)
        found.append(Field(number, wire, part if below is None else below))
    return found


def serialise(tree: list[Field]) -> bytes:
    """Return a message as bytes."""
    parts = []
    for each in tree:
        parts.append(_varint(each.number << 3 | each.wire))
        if isinstance(each.value, int):
            parts.append(_varint(each.value))
            continue
        value = serialise(each.value) if isinstance(each.value, list) else each.value
        parts += [_varint(len(value)), value] if each.wire == _LENGTH else [value]
    return b"".join(parts)


def _is_name(part: bytes) -> bool:
    return len(part) > 1 and all(32 <= byte < 127 for byte in part[:64])


def _varint(value: int) -> bytes:
    value %= 2**64
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128 or shift > 63:
            return value, at


def _change(
    tree: list[Field], dice: random.Random, text: Callable[[bytes], bytes], leaf: Callable[[bytes], bytes]
) -> None:
    """Change one field, after a walk down from the top that may stop anywhere."""
    holder = tree
    while True:
        if not holder:
            return
        at = dice.randrange(len(holder))
        each = holder[at]
        if not isinstance(each.value, list) or dice.random() < 0.12:
            break
        holder = each.value
    if dice.random() < 0.25 or isinstance(each.value, list):
        _rearrange(holder, at, dice)
    elif isinstance(each.value, int):
        each.value = dice.choice((*_NUMBERS, each.value + 1, each.value - 1, each.value * 2))
    elif _is_name(each.value):
        names = _names(tree)
        each.value = dice.choice((text(each.value), dice.choice(names), dice.choice(_OPERATIONS)))
    else:
        each.value = leaf(each.value) if each.wire == _LENGTH else dice.randbytes(len(each.value))


def _rearrange(holder: list[Field], at: int, dice: random.Random) -> None:
    match dice.randrange(4):
        case 0:
            del holder[at]
        case 1:
            holder[at:at] = [holder[at]] * dice.choice((1, 1, 3, 200))
        case 2:
            other = dice.randrange(len(holder))
            holder[at], holder[other] = holder[other], holder[at]
        case _:
            holder[at] = Field(dice.randrange(1, 12), holder[at].wire, holder[at].value)


def _names(tree: list[Field]) -> list[bytes]:
    """Return the first names in a message: of nodes and their inputs mostly."""
    names, waiting = [b"x"], [tree]
    while waiting and len(names) < 2000:
        for each in waiting.pop():
            if isinstance(each.value, list):
                waiting.append(each.value)
            elif isinstance(each.value, bytes) and _is_name(each.value):
                names.append(each.value)
    return names


def _grow(tree: list[Field], dice: random.Random) -> None:
    """Put a chain of nodes before an input of a node of a frozen graph: many, or few that each double what they get."""
    nodes = [each for each in tree if each.number == 1 and isinstance(each.value, list)]
    inputs = [below for node in nodes for below in node.value if below.number == 3]  # type: ignore[union-attr]
    if not inputs:
        return
    end = dice.choice(inputs)
    operation, length = dice.choice(((b"Identity", 20_000), (b"AddV2", 40), (b"AddV2", 2000)))
    below = end.value
    for number in range(length):
        name = b"grown/%d" % number
        double = [] if operation == b"Identity" else [Field(3, _LENGTH, below)]
        kind = [Field(1, _LENGTH, b"T"), Field(2, _LENGTH, [Field(6, _VARINT, 1)])]
        fields = [Field(1, _LENGTH, name), Field(2, _LENGTH, operation), Field(3, _LENGTH, below), *double]
        tree.append(Field(1, _LENGTH, [*fields, Field(5, _LENGTH, kind)]))  # type: ignore[arg-type]
        below = name
    if dice.random() < 0.2:
        below = b"grown/%d" % (length + 1)  # nowhere
    end.value = below
