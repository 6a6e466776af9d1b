"""The standard metadata of TFLite models, from which an app knows how to scale pixels and what the classes are called.

The table is laid out as in https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs
and stored under `NOTE`; the labels file is an archive behind the model's own bytes, which loaders of models pass over.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.metadata import decode_labels, encode_labels
from retrain.preprocessing import CROP, LETTERBOX, PADDING, Scaling

NOTE = "TFLITE_METADATA"
LABELS_FILE = "labels.txt"
_IDENTIFIER = b"M001"
_LARGEST_LABELS = 2**24  # bytes
_PARSER = "1.0.0"  # the first version that knows all that is written here
_RGB, _IMAGE, _NORMALIZATION, _AXIS_LABELS = 1, 2, 1, 2  # values of enumerations and unions in the schema
# Positions of fields in the tables of the schema; a union takes two, its type first.
_SUBGRAPHS = 3
_INPUTS, _OUTPUTS = 2, 3
_PROCESS_UNITS, _RANGE, _FILES = 4, 5, 6
_NAME, _TYPE = 0, 2
# What a description in words says: the schema has no place for it.
_KEPT = {
    None: "the aspect ratio is not kept",
    LETTERBOX: f"the aspect ratio is kept: scaled to fit in, between bars of the grey {PADDING}",
    CROP: "the aspect ratio is kept: its middle, scaled to fill the tensor",
}


@dataclass(frozen=True)
class ClassifierMetadata:
    """The metadata of an image classifier: pixels go in as `(pixel - mean) / std`, quantised or not.

    `labels` are () and `mean` and `std` None where the metadata have none. `integer` tells that the input is
    whole numbers, 0 to 255, and `integer_scores` the same of the scores; `keep_aspect_ratio` is as in `InputSpec`.
    """

    labels: tuple[str, ...] = ()
    mean: Scaling | None = None
    std: Scaling | None = None
    name: str = ""
    output: str = ""
    integer: bool = False
    integer_scores: bool = False
    keep_aspect_ratio: str | None = None


def pack(metadata: ClassifierMetadata) -> bytes:
    """Return the metadata of an image classifier whose labels are in `LABELS_FILE`, as a flatbuffer."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    mean, std = metadata.mean or 0.0, metadata.std or 1.0
    each = np.asarray(mean), np.asarray(std)
    input_range: tuple[Scaling, Scaling] = (-each[0] / each[1]).tolist(), ((255 - each[0]) / each[1]).tolist()
    if metadata.integer:
        input_range = 0.0, 255.0
    output_range = (0.0, 255.0) if metadata.integer_scores else (0.0, 1.0)
    properties = _table(builder, 2, {0: ("int8", _RGB)})
    content = _table(builder, 3, {0: ("uint8", _IMAGE), 1: ("offset", properties)})
    normalization = _table(builder, 2, {0: ("offset", _floats(builder, mean)), 1: ("offset", _floats(builder, std))})
    unit = _table(builder, 2, {0: ("uint8", _NORMALIZATION), 1: ("offset", normalization)})
    units, limits = _offsets(builder, [unit]), _range(builder, *input_range)
    image = {3: ("offset", content), _PROCESS_UNITS: ("offset", units), _RANGE: ("offset", limits)}
    input_tensor = _named(builder, 7, "image", f"The photo: RGB, {_KEPT[metadata.keep_aspect_ratio]}.", image)
    description = "Class names, one a line, in the order of the scores."
    labels = _named(builder, 5, LABELS_FILE, description, {_TYPE: ("int8", _AXIS_LABELS)})
    limits, files = _range(builder, *output_range), _offsets(builder, [labels])
    scores = {_RANGE: ("offset", limits), _FILES: ("offset", files)}
    output_tensor = _named(builder, 7, metadata.output, "How likely each class is; all together 1.", scores)
    inputs, outputs = _offsets(builder, [input_tensor]), _offsets(builder, [output_tensor])
    subgraph = _table(builder, 10, {_INPUTS: ("offset", inputs), _OUTPUTS: ("offset", outputs)})
    parser, subgraphs = builder.CreateString(_PARSER), _offsets(builder, [subgraph])
    fields = {_SUBGRAPHS: ("offset", subgraphs), 7: ("offset", parser)}
    root = _named(builder, 8, metadata.name, "Names what is in a photo.", fields)
    builder.Finish(root, file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def add_labels_file(model: bytes, labels: Sequence[str]) -> bytes:
    """Return a model file with its labels file behind it."""
    file = io.BytesIO(model)
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a") as archive:
        # ZipInfo has a fixed time: the same training writes the same bytes.
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), encode_labels(labels))
    return file.getvalue()


def unpack(metadata: bytes, model: bytes) -> ClassifierMetadata:
    """Return the metadata of a model as those of an image classifier.

    Args:
        metadata: What is stored under `NOTE`.
        model: The whole model file.

    Raises:
        ValueError: Damaged metadata.
    """
    try:
        subgraph = next(_tables(_root(metadata), _SUBGRAPHS))
        mean = std = None
        for tensor in _tables(subgraph, _INPUTS):
            for unit in _tables(tensor, _PROCESS_UNITS):
                if _byte(unit, 0) == _NORMALIZATION and (options := _child(unit, 1)) is not None:
                    mean, std = _scaling(options, 0), _scaling(options, 1)
        files = [file for tensor in _tables(subgraph, _OUTPUTS) for file in _tables(tensor, _FILES)]
        names = [_string(file, _NAME) for file in files if _byte(file, _TYPE) == _AXIS_LABELS]
        return ClassifierMetadata(_labels(model, names[0]) if names else (), mean, std)
    except Exception as error:  # offsets that lead nowhere end in struct.error, StopIteration and others
        raise ValueError("damaged TFLite metadata") from error


def _labels(model: bytes, name: str) -> tuple[str, ...]:
    with zipfile.ZipFile(io.BytesIO(model)) as archive, archive.open(name) as file:
        return decode_labels(file.read(_LARGEST_LABELS))


def _table(builder: Any, fields: int, values: dict[int, tuple[str, Any]]) -> int:
    """Add a table of so many fields to what is built and return its offset; each value comes with its kind."""
    add = {
        "int8": builder.PrependInt8Slot,
        "uint8": builder.PrependUint8Slot,
        "offset": builder.PrependUOffsetTRelativeSlot,
    }
    builder.StartObject(fields)
    for slot, (kind, value) in values.items():
        add[kind](slot, value, 0)
    offset: int = builder.EndObject()
    return offset


def _named(builder: Any, fields: int, name: str, description: str, values: dict[int, tuple[str, Any]]) -> int:
    """Add a table whose first two fields are a name and a description, as all with names have them."""
    texts = [builder.CreateString(text) for text in (name, description)]
    return _table(builder, fields, {0: ("offset", texts[0]), 1: ("offset", texts[1]), **values})


def _range(builder: Any, low: Scaling, high: Scaling) -> int:
    return _table(builder, 2, {0: ("offset", _floats(builder, high)), 1: ("offset", _floats(builder, low))})


def _floats(builder: Any, value: Scaling) -> int:
    values = np.atleast_1d(value)
    builder.StartVector(4, len(values), 4)
    for each in reversed(values):
        builder.PrependFloat32(float(each))
    offset: int = builder.EndVector()
    return offset


def _offsets(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for each in reversed(offsets):
        builder.PrependUOffsetTRelative(each)
    offset: int = builder.EndVector()
    return offset


def _root(metadata: bytes) -> Any:
    from flatbuffers import encode, number_types, table

    return table.Table(metadata, encode.Get(number_types.UOffsetTFlags.packer_type, metadata, 0))


def _field(table: Any, slot: int) -> int:
    """Return where a field of a table is, 0 for nowhere."""
    place = table.Offset(4 + 2 * slot)
    return table.Pos + place if place else 0


def _child(table: Any, slot: int) -> Any:
    place = _field(table, slot)
    return type(table)(table.Bytes, table.Indirect(place)) if place else None


def _tables(table: Any, slot: int) -> Iterator[Any]:
    if not _field(table, slot):
        return
    start, count = table.Vector(table.Offset(4 + 2 * slot)), table.VectorLen(table.Offset(4 + 2 * slot))
    for number in range(count):
        yield type(table)(table.Bytes, table.Indirect(start + 4 * number))


def _byte(table: Any, slot: int) -> int:
    place = _field(table, slot)
    return table.Bytes[place] if place else 0


def _string(table: Any, slot: int) -> str:
    return str(table.String(_field(table, slot)), "utf-8")


def _scaling(table: Any, slot: int) -> Scaling | None:
    """Return the value that all numbers of a vector have, or three, None for another count of different ones."""
    from flatbuffers import number_types

    place = table.Offset(4 + 2 * slot)
    start, count = (table.Vector(place), table.VectorLen(place)) if place else (0, 0)
    values = tuple(float(table.Get(number_types.Float32Flags, start + 4 * number)) for number in range(count))
    return values[0] if len(set(values)) == 1 else values if count == 3 else None
