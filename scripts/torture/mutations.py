"""Damages files as disks, transfers and attackers do: by bits anywhere, and by what the bytes of a format mean.

A format with fixed places is known by its `Layout`: where its numbers stand, and which pieces can be left out, doubled
or exchanged. Archives and protocol buffers are taken apart, damaged inside, and put together again with right lengths
and checksums, so that the damage gets past the first look. The same dice give the same bytes.
"""

import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scripts.torture import protobuf

_MOST_BYTES = 2**23  # of a damaged file
_EXTREMES = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_OFTEN_AT_FRONT = 256
_HOSTILE_NAMES = ["", "\0", "\ufeff", "..", "/", "-", "0", "=1+1", "\x1b[2J", "é" * 40, "x" * 70_000, "\ud800", "NaN"]
_HOSTILE_VALUES = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    "a",
    [],
    {},
]


@dataclass
class Layout:
    """Numbers of a file, as (offset, format of `struct`), and pieces, as (start, end), which stand side by side."""

    numbers: list[tuple[int, str]] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)


def mutate(data: bytes, ending: str, dice: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return a damaged copy of a file of a format, named by its ending; `others` are files to take pieces from."""
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        meant = _BY_ENDING.get(ending)
        try:
            data = (meant if meant and dice.random() < 0.7 else flip)(data, dice, others)
        except Exception:  # damaged so far that nothing in it can be found
            data = flip(data, dice, others)
    return data[:_MOST_BYTES]


def flip(data: bytes, dice: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return a copy with bits flipped, or bytes set, cut off, left out, doubled, inserted or from another file."""
    if not data:
        return dice.randbytes(dice.randrange(64))
    changed = bytearray(data)
    at, length = _place(data, dice), dice.choice((1, 2, 4, 16, 64, 512, 4096))
    match dice.randrange(9):
        case 0 | 1:
            for _ in range(dice.choice((1, 1, 2, 8, 30))):
                changed[_place(data, dice)] ^= 1 << dice.randrange(8)
        case 2:
            changed[at : at + length] = dice.choice((b"\0", b"\xff", dice.randbytes(1))) * len(
                changed[at : at + length]
            )
        case 3:
            del changed[dice.choice((at, dice.randrange(len(data)))) :]
        case 4:
            changed[at:at] = dice.choice((dice.randbytes(length), data[at : at + length]))
        case 5:
            del changed[at : at + length]
        case 6 if others:
            other = dice.choice(others)
            changed[at:] = other[dice.randrange(len(other) + 1) :]
        case 7 if others:
            other = dice.choice(others)
            start = dice.randrange(len(other) + 1)
            changed[at : at + length] = other[start : start + length]
        case _:
            _set_number(changed, at, dice.choice("<>") + dice.choice("BHIQ"), dice)
    return bytes(changed)


def _place(data: bytes, dice: random.Random) -> int:
    """Return an offset in a file, at its front or its end more often than its length would say."""
    near = min(len(data), _OFTEN_AT_FRONT)
    return dice.choice((dice.randrange(near), dice.randrange(len(data)), len(data) - 1 - dice.randrange(near)))


def _set_number(changed: bytearray, at: int, form: str, dice: random.Random) -> None:
    size = struct.calcsize(form)
    if len(changed) < size:
        return
    at = max(0, min(at, len(changed) - size))
    (old,) = struct.unpack_from(form, changed, at)
    new = dice.choice(
        (dice.choice(_EXTREMES), old + dice.choice((-1, 1)), old * 2, old // 2, dice.getrandbits(8 * size))
    )
    struct.pack_into(form, changed, at, new % 2 ** (8 * size))


def _by_layout(
    layout_of: Callable[[bytes], Layout], repair: Callable[[bytes], bytes] = lambda data: data
) -> Callable[[bytes, random.Random, Sequence[bytes]], bytes]:
    """Return a mutator of a format; `repair` makes its checksums right again, which most damaged files get."""

    def change(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
        layout = layout_of(data)
        changed = bytearray(data)
        if layout.pieces and dice.random() < 0.35:
            changed = bytearray(_rearranged(data, layout.pieces, dice))
        else:
            for _ in range(dice.choice((1, 1, 2, 4))):
                offset, form = dice.choice(layout.numbers)
                _set_number(changed, offset, form, dice)
        return repair(bytes(changed)) if dice.random() < 0.8 else bytes(changed)

    return change


def _rearranged(data: bytes, spans: Sequence[tuple[int, int]], dice: random.Random) -> bytes:
    pieces = [data[start:end] for start, end in spans]
    first, second = dice.randrange(len(pieces)), dice.randrange(len(pieces))
    match dice.randrange(4):
        case 0:
            del pieces[first]
        case 1:
            pieces[second:second] = [pieces[first]] * dice.choice((1, 1, 2, 500))
        case 2:
            pieces[first], pieces[second] = pieces[second], pieces[first]
        case _:
            pieces[first] = flip(pieces[first], dice)
    return data[: spans[0][0]] + b"".join(pieces) + data[spans[-1][1] :]


def _jpeg(data: bytes) -> Layout:
    layout, at = Layout(), 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        length = struct.unpack_from(">H", data, at + 2)[0]
        layout.pieces.append((at, at + 2 + length))
        layout.numbers += [(at + 1, "B"), (at + 2, ">H"), *((at + 4 + n, "B") for n in range(min(length - 2, 24)))]
        if 0xC0 <= data[at + 1] <= 0xCF:
            layout.numbers += [(at + 5, ">H"), (at + 7, ">H")] * 6
        at += 2 + length
        if data[at - 2 - length + 1] == 0xDA:  # the picture itself, up to the next marker
            while at + 1 < len(data) and (data[at] != 0xFF or data[at + 1] in (0, *range(0xD0, 0xD8))):
                at += 1
            layout.pieces[-1] = (layout.pieces[-1][0], at)
    return layout


def _png(data: bytes) -> Layout:
    layout, at = Layout(), 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        layout.pieces.append((at, at + 12 + length))
        layout.numbers += [(at, ">I"), (at + 4, "B"), *((at + 8 + n, "B") for n in range(min(length, 32)))]
        if data[at + 4 : at + 8] in (b"IHDR", b"acTL", b"fcTL"):
            layout.numbers += [(at + 8, ">I"), (at + 12, ">I"), *((at + 16 + n, "B") for n in range(5))] * 4
        at += 12 + length
    return layout


def _with_png_checksums(data: bytes) -> bytes:
    """Return a PNG with the checksum of each chunk made right."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        parts += [data[at:end], struct.pack(">I", zlib.crc32(data[at + 4 : end]))]
        at = end + 4
    return b"".join([*parts, data[at:]])


def _gif(data: bytes) -> Layout:
    layout = Layout([(6, "<H"), (8, "<H"), *((n, "B") for n in range(10, 13))] * 3)
    at = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    while at < len(data) and data[at] in (0x21, 0x2C):
        start = at
        if data[at] == 0x2C:
            layout.numbers += [(at + 1 + 2 * n, "<H") for n in range(4)] * 2 + [(at + 9, "B")]
            at += 10 + (3 * 2 ** ((data[at + 9] & 7) + 1) if data[at + 9] & 0x80 else 0)
            layout.numbers.append((at, "B"))  # the width of the first codes
            at += 1
        else:
            layout.numbers += [(at + 1, "B"), (at + 3, "B"), (at + 4, "<H")]
            at += 2
        while at < len(data) and data[at]:
            layout.numbers.append((at, "B"))
            at += 1 + data[at]
        at += 1
        layout.pieces.append((start, at))
    return layout


def _riff(data: bytes) -> Layout:
    layout, at = Layout([(4, "<I")]), 12
    while at + 8 <= len(data):
        length = struct.unpack_from("<I", data, at + 4)[0]
        layout.pieces.append((at, at + 8 + length + length % 2))
        layout.numbers += [(at + 3, "B"), (at + 4, "<I"), *((at + 8 + n, "B") for n in range(min(length, 24)))]
        at += 8 + length + length % 2
    return layout


def _with_riff_length(data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", max(0, len(data) - 8)) + data[8:]


def _tiff(data: bytes) -> Layout:
    order = "<" if data[:2] == b"II" else ">"
    layout, at, seen = Layout([(4, f"{order}I")]), struct.unpack_from(f"{order}I", data, 4)[0], set[int]()
    while at and at not in seen and at + 2 <= len(data):
        seen.add(at)
        count = struct.unpack_from(f"{order}H", data, at)[0]
        layout.numbers.append((at, f"{order}H"))
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            layout.pieces.append((entry, entry + 12))
            layout.numbers += [(entry, f"{order}H"), (entry + 2, f"{order}H"), (entry + 4, f"{order}I")]
            layout.numbers += [(entry + 8, f"{order}I"), (entry + 8, f"{order}H")] * 2
        layout.numbers.append((at + 2 + 12 * count, f"{order}I"))
        at = struct.unpack_from(f"{order}I", data, at + 2 + 12 * count)[0]
    return layout if len({end for _, end in layout.pieces}) == len(layout.pieces) else Layout(layout.numbers)


def _bmp(data: bytes) -> Layout:
    words = [(at, "<I") for at in (2, 10, 14, 18, 22, 30, 34, 46, 50)]
    return Layout([*words, (26, "<H"), (28, "<H"), (18, "<I"), (22, "<I"), (28, "<H"), (30, "<I")])


def _words(data: bytes) -> Layout:
    """Return the aligned words of a FlatBuffer, of HDF5 and of others whose weights stand between their tables."""
    ends = [*range(0, min(len(data), 4096) - 8, 4), *range(max(0, len(data) - 65536) & ~3, len(data) - 8, 4)]
    return Layout([(at, form) for at in ends for form in ("<I", "<H")])


def _protobuf(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    return protobuf.mutate(
        data, dice, text=lambda value: _text(value, dice), leaf=lambda value: flip(value, dice, others)
    )


def _text(data: bytes, dice: random.Random) -> bytes:
    """Return a name or a text changed: JSON inside, others as a whole."""
    if data.startswith(b"{"):
        return _json(data, dice, ())
    return dice.choice(_HOSTILE_NAMES).encode("utf-8", "surrogatepass") if dice.random() < 0.5 else flip(data, dice)


def _json(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    if dice.random() < 0.1:
        return flip(data, dice, others)
    if dice.random() < 0.03:
        return b"[" * 100_000
    tree = json.loads(data)
    holders: list[list | dict] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list | dict) and node:
            holders.append(node)
            waiting += node.values() if isinstance(node, dict) else node
    for _ in range(dice.choice((1, 1, 2, 4))):
        holder = dice.choice(holders)
        key = dice.choice(sorted(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))
        match dice.randrange(4):
            case 0 if isinstance(holder, dict) and len(holder) > 1:
                del holder[key]
            case 1 if isinstance(holder[key], int | float):
                holder[key] = dice.choice((*_EXTREMES, -1, 2**63, 10**400, 0.5, -1e308))
            case 2:
                holder[key] = [holder[key]] * dice.choice((0, 1, 3, 1000))
            case _:
                value = dice.choice((*_HOSTILE_VALUES, *_HOSTILE_NAMES))
                holder[key] = json.loads(json.dumps(value))  # a new list or object each time
    return json.dumps(tree).encode()


def _labels(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    text = data.decode("utf-8", "replace")
    lines = text.splitlines()
    match dice.randrange(7):
        case 0:
            return text.encode(dice.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7")))
        case 1:
            mark = dice.choice((" ", "\t", ":", ",", " : ", ";"))
            return "\n".join(f"{n + dice.choice((0, 0, 0, 1))}{mark}{line}" for n, line in enumerate(lines)).encode()
        case 2:
            ends = ("\r", "\r\n", "\v", "\f", "\x1c", "\u2028", "\0", "\n\n")
            return dice.choice(ends).join(lines).encode()
        case 3:
            lines.insert(dice.randrange(len(lines) + 1), dice.choice(_HOSTILE_NAMES))
            return "\n".join(lines).encode("utf-8", "surrogatepass")
        case 4:
            return data * dice.choice((0, 2, 1000))
        case 5:
            return dice.choice((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"9" * 5000 + b" ")) + data
        case _:
            return flip(data, dice, others)


def _zip(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """Return an archive with one member damaged, left out, doubled, renamed or claimed larger."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = dice.randrange(len(members))
    name, content = members[at]
    match dice.randrange(8):
        case 0:
            del members[at]
        case 1:
            members.append((dice.choice((name, "../" + name, "/" + name, name * 40)), content))
        case 2:
            members[at] = (name, bytes(dice.choice((0, 2**24))))  # deflated, much becomes little
        case _:
            members[at] = (name, mutate(content, name.rpartition(".")[2], dice, others))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, content in members:
            archive.writestr(zipfile.ZipInfo(member[:60_000]), content)
    return packed.getvalue()


def _npy(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    length = 10 + struct.unpack_from("<H", data, 8)[0]
    header = data[:length]
    for old, new in dice.sample(
        [
            (b"<f4", b"|O8"),
            (b"<f4", b"<f8"),
            (b"<f4", b"|S0"),
            (b"False", b"True "),
            (b"(", b"(9999999, "),
            (b"(", b"(-1, "),
        ],
        2,
    ):
        header = header.replace(old, new, 1) if dice.random() < 0.5 else header
    header = flip(header, dice) if dice.random() < 0.3 else header
    return header + (flip(data[length:], dice, others) if len(data) > length and dice.random() < 0.3 else data[length:])


def _tgz(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """Return an archive with its inside damaged: a member, a header or the order."""
    plain = gzip.decompress(data)
    if dice.random() < 0.4:
        layout = Layout([(at, "B") for block in range(0, len(plain), 512) if plain[block : block + 1].isalpha()
                         for at in range(block, min(block + 265, len(plain)))])  # fmt: skip
        return gzip.compress(_by_layout(lambda _: layout)(plain, dice, others), 1, mtime=0)
    packed = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(plain)) as old, tarfile.open(fileobj=packed, mode="w") as new:
        for member in old:
            content = old.extractfile(member)
            changed = mutate(content.read() if content else b"", member.name.rpartition(".")[2], dice, others)
            if dice.random() < 0.15:
                member.type = dice.choice((tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE))
                member.linkname = dice.choice(("/etc/passwd", member.name, "../x"))
            member.size = len(changed) if member.isreg() else 0
            new.addfile(member, io.BytesIO(changed))
    return gzip.compress(packed.getvalue(), 1, mtime=0)


def _hdf5(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """Return an HDF5 file with the description of its network changed, or a word of its tables."""
    start = data.find(b'{"class_name"')
    end = data.find(b"\0", start)
    if start < 0 or dice.random() < 0.5:
        return _by_layout(_words)(data, dice, others)
    text = _json(data[start:end], dice, others)[: end - start]
    return data[:start] + text.ljust(end - start) + data[end:]  # its length stands elsewhere, and stays


_BY_ENDING = {
    "jpg": _by_layout(_jpeg),
    "png": _by_layout(_png, _with_png_checksums),
    "gif": _by_layout(_gif),
    "webp": _by_layout(_riff, _with_riff_length),
    "tif": _by_layout(_tiff),
    "bmp": _by_layout(_bmp),
    "tflite": _by_layout(_words),
    "pb": _protobuf,
    "onnx": _protobuf,
    "keras": _zip,
    "npz": _zip,
    "npy": _npy,
    "tgz": _tgz,
    "h5": _hdf5,
    "json": _json,
    "txt": _labels,
}
