import io
import re
import subprocess
import sys
import zipfile

import pytest
from builders import NAMES
from conftest import metadata_schema

from retrain.formats import table as format_table
from retrain.formats.litert import flatbuffer
from retrain.formats.litert import metadata as litert_metadata

pytestmark = pytest.mark.slow  # all need the training that is exported in every format


def standard_metadata(path):
    from ai_edge_litert import schema_py_generated as tflite

    model = tflite.ModelT.InitFromPackedBuf(path.read_bytes())
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    return metadata_schema().ModelMetadataT.InitFromPackedBuf(bytes(bytearray(model.buffers[entry.buffer].data)))


@pytest.mark.parametrize("name", ["tflite", "tflite_fp16", "tflite_int8"])
def test_the_standard_metadata_are_those_of_the_schema(graph, name):
    path = format_table.path_of(graph, name)
    told, generated = standard_metadata(path), metadata_schema()
    assert told.minParserVersion == b"1.0.0"
    (subgraph,) = told.subgraphMetadata
    (taken,), (given,) = subgraph.inputTensorMetadata, subgraph.outputTensorMetadata
    assert taken.content.contentPropertiesType == generated.ContentProperties.ImageProperties
    assert taken.content.contentProperties.colorSpace == generated.ColorSpaceType.RGB
    (unit,) = taken.processUnits
    assert unit.optionsType == generated.ProcessUnitOptions.NormalizationOptions
    assert (list(unit.options.mean), list(unit.options.std)) == ([127.5], [127.5])
    whole = name == "tflite_int8"
    assert (list(taken.stats.min), list(taken.stats.max)) == (([0], [255]) if whole else ([-1], [1]))
    assert (list(given.stats.min), list(given.stats.max)) == (([0], [255]) if whole else ([0], [1]))
    (file,) = given.associatedFiles
    assert file.type == generated.AssociatedFileType.TENSOR_AXIS_LABELS
    with zipfile.ZipFile(path) as archive:
        assert archive.read(file.name.decode()).decode().splitlines() == NAMES


@pytest.mark.parametrize("name", ["tflite", "tflite_fp16", "tflite_int8"])
def test_mediapipe_names_each_colour_by_the_file_alone(graph, pictures, tmp_path, name):
    code = (
        "import sys, mediapipe\n"
        "from mediapipe.tasks.python import BaseOptions, vision\n"
        "base = BaseOptions(model_asset_path=sys.argv[1])\n"
        "options = vision.ImageClassifierOptions(base_options=base, max_results=1)\n"
        "with vision.ImageClassifier.create_from_options(options) as classifier:\n"
        "    for path in sys.argv[2:]:\n"
        "        found = classifier.classify(mediapipe.Image.create_from_file(path))\n"
        "        print(found.classifications[0].categories[0].category_name)\n"
    )
    words = [sys.executable, "-c", code, format_table.path_of(graph, name), *pictures.values()]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, cwd=tmp_path)
    missing = re.search(r"^(ModuleNotFound|Import|OS)Error: (.*)$", done.stderr, re.M)  # libEGL, say
    if done.returncode and missing:
        pytest.skip(f"MediaPipe does not load on this machine: {missing[2]}")
    assert done.stdout.split() == list(pictures), done.stderr


def test_damaged_metadata_are_an_error_and_no_crash(graph):
    model = format_table.path_of(graph, "tflite").read_bytes()
    notes = flatbuffer.read_metadata(model)[litert_metadata.NOTE]
    assert litert_metadata.unpack(notes, model).labels == tuple(NAMES)

    def labels(position):
        damaged = notes[:position] + b"\xff\xff\xff\x7f" + notes[position + 4 :]
        try:
            return litert_metadata.unpack(damaged, model).labels
        except ValueError:
            return "refused"

    found = {labels(position) for position in range(0, len(notes), 4)}
    assert found == {"refused", (), tuple(NAMES)}


def test_labels_inside_a_model_are_read_as_any_labels_file():
    notes = litert_metadata.pack(litert_metadata.ClassifierMetadata())
    for encoding in ("utf-8-sig", "utf-16"):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(litert_metadata.LABELS_FILE, "0 cats\r\n1 dogs\r\n".encode(encoding))
        assert litert_metadata.unpack(notes, archive.getvalue()).labels == ("cats", "dogs")
