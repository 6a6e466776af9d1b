"""Arbitrary bytes in a LiteRT model and in its standard metadata are refused as such, or read; nothing else."""

import contextlib
import functools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.formats.litert import flatbuffer
from retrain.formats.litert import metadata as standard
from retrain.head import linear

LABELS = ("cats", "dogs", "a b")
flips = st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), min_size=1, max_size=4)


@functools.cache
def model():
    """A model of one dense layer and a softmax, with metadata and a labels file."""
    from ai_edge_litert import schema_py_generated as schema

    empty, graph = schema.ModelT(), schema.SubGraphT()
    image = schema.TensorT()
    image.name, image.shape, image.type, image.buffer = "image", [1, 2], schema.TensorType.FLOAT32, 0
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [image], [], [0], [0]
    empty.version, empty.subgraphs, empty.buffers, empty.operatorCodes = 3, [graph], [schema.BufferT()], []
    backbone = flatbuffer._packed(empty, size=1024)
    head = linear(np.ones((2, len(LABELS)), np.float32), np.zeros(len(LABELS), np.float32))
    notes = standard.pack(standard.ClassifierMetadata(mean=127.5, std=127.5))
    with_head = flatbuffer.add_head(backbone, head, output="scores", notes={standard.NOTE: notes})
    return standard.add_labels_file(with_head, LABELS)


def flipped(data, changes):
    changed = bytearray(data)
    for position, change in changes:
        changed[position % len(data)] ^= change
    return bytes(changed)


def look_around(data):
    for read in (flatbuffer.read_metadata, flatbuffer.io_tensors, flatbuffer.first_scaling):
        with contextlib.suppress(ValueError):
            read(data)
    with contextlib.suppress(ValueError):
        told = standard.unpack(flatbuffer.read_metadata(data).get(standard.NOTE, b""), data)
        assert all(isinstance(label, str) for label in told.labels)


def test_an_undamaged_model_is_read():
    image, outputs = flatbuffer.io_tensors(model())
    assert (image.name, list(outputs), outputs["scores"].operation) == ("image", ["scores"], "softmax")
    told = standard.unpack(flatbuffer.read_metadata(model())[standard.NOTE], model())
    assert (told.labels, told.mean, told.std) == (LABELS, 127.5, 127.5)


@settings(max_examples=100, derandomize=True)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_no_model(rest, marked):
    look_around(b"\x1c\0\0\0TFL3" + rest if marked else rest)


@settings(max_examples=150, derandomize=True)
@given(flips)
def test_a_damaged_model_is_read_or_refused(changes):
    look_around(flipped(model(), changes))


@settings(max_examples=60, derandomize=True)
@given(st.integers(0, 2**16))
def test_a_model_cut_short_is_read_or_refused(length):
    look_around(model()[: length % len(model())])


@settings(max_examples=150, derandomize=True)
@given(st.one_of(st.binary(max_size=200), flips))
def test_any_metadata_are_read_or_refused(change):
    notes = change if isinstance(change, bytes) else flipped(standard.pack(standard.ClassifierMetadata()), change)
    with contextlib.suppress(ValueError):
        standard.unpack(notes, model())
