"""Every format says how photos keep their aspect ratio, and is given them so."""

import json
from dataclasses import replace

import numpy as np
import pytest
from builders import encoded, export_source, exported, mean_classifier
from conftest import ROOT, command
from PIL import Image, ImageOps

from retrain import files, metadata
from retrain.errors import GraphError
from retrain.formats import frozen_graph, saved_model
from retrain.formats import table as format_table
from retrain.formats.litert import conversion
from retrain.formats.litert import model as litert_model
from retrain.formats.table import EXPORTS
from retrain.graphs import reading
from retrain.head import linear, softmax
from retrain.inference import loading, prediction
from retrain.preprocessing import PADDING

WIDE = Image.new("RGB", (48, 16), (250, 20, 20))


def expected(picture):
    """The probabilities of a letterboxed picture, by Pillow and arithmetic alone."""
    pixels = np.asarray(ImageOps.pad(picture, (16, 16), Image.Resampling.BILINEAR, color=(PADDING,) * 3))
    return softmax(9 * pixels.mean(axis=(0, 1), dtype=np.float32)[None] / 255)[0]


@pytest.fixture(scope="module")
def graph(tmp_path_factory, mean_colour_backbone):
    """A classifier of letterboxed photos, with its LiteRT form beside it."""
    folder = tmp_path_factory.mktemp("letterbox")
    path = exported(mean_colour_backbone, folder / "retrained_graph.pb", keep_aspect_ratio="letterbox")
    litert, head = folder / "backbone.tflite", linear(np.eye(3, dtype=np.float32) * 9, np.zeros(3, np.float32))
    classifier = mean_classifier(mean_colour_backbone, head, litert=litert, keep_aspect_ratio="letterbox")
    backbone = reading.read_graph(mean_colour_backbone)
    litert.write_bytes(conversion.to_float32(backbone, classifier.input, target=classifier.target))
    model = litert_model.join(classifier, frozen_graph.describe(path), sha256=files.sha256_of(path))
    files.write_result(format_table.path_of(path, "tflite"), model)
    (folder / "wide.png").write_bytes(encoded(WIDE, "PNG"))
    return path


def written(graph, name):
    path = format_table.path_of(graph, name)
    if not path.exists():
        images = [np.full((16, 16, 3), value, np.uint8) for value in (0, 90, 255)]
        format_table.write(name, export_source(graph, images), graph)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTS)
def test_every_format_letterboxes_photos(graph, name):
    model = loading.load(written(graph, name))
    assert model.metadata.input.keep_aspect_ratio == "letterbox"
    (found,) = prediction.predict_probabilities(model, [graph.with_name("wide.png")])
    assert found.probabilities == pytest.approx(expected(WIDE), abs=0.05 if name == "tflite_int8" else 0.01)


@pytest.mark.slow
def test_a_saved_model_letterboxes_image_files_itself(graph):
    classify = saved_model.ImageFileModel(written(graph, "saved_model"))
    for size in ((48, 16), (16, 48), (33, 32), (7, 7)):
        picture = WIDE.resize(size)
        assert classify(encoded(picture, "PNG")) == pytest.approx(expected(picture), abs=0.01), size


@pytest.mark.slow
def test_the_frozen_graph_is_described_and_quantized_as_what_it_is(graph, tmp_path):
    shown = command("label_image", "--describe", "--graph", graph, cwd=tmp_path).stdout
    assert "photos:      letterbox: scaled to fit in, between grey bars\n" in shown
    command("python", "-m", "scripts.quantize_graph", "--input", graph, "--output", tmp_path / "q.pb", cwd=ROOT)
    assert frozen_graph.describe(tmp_path / "q.pb").input == frozen_graph.describe(graph).input


@pytest.mark.slow
def test_the_standard_metadata_say_it_in_words(graph):
    model = format_table.path_of(graph, "tflite").read_bytes()
    assert f"RGB, the aspect ratio is kept: scaled to fit in, between bars of the grey {PADDING}.".encode() in model


@pytest.mark.slow
@pytest.mark.parametrize("mode", [None, "crop"])
def test_a_model_that_says_nothing_is_ruled_by_the_flag(mean_colour_backbone, tmp_path, mode):
    picture = Image.new("RGB", (48, 16), (20, 20, 250))
    picture.paste((250, 20, 20), (16, 0, 32, 16))
    (tmp_path / "photo.png").write_bytes(encoded(picture, "PNG"))
    exported(mean_colour_backbone, tmp_path / "g.pb")
    words = [f"--keep_aspect_ratio={mode}"] if mode else []
    shown = command("label_image", "--graph=g.pb", "--json", *words, "photo.png", cwd=tmp_path).stdout
    assert json.loads(shown)["labels"][0]["label"] == ("red" if mode else "blue")


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *EXPORTS])
def test_what_a_later_version_wrote_is_refused_in_one_line(graph, tmp_path, name, monkeypatch):
    """As its metadata would be: today's, with another word in them."""
    to_json = metadata.Metadata.to_json
    monkeypatch.setattr(metadata.Metadata, "to_json", lambda told: to_json(told).replace("letterbox", "tileboxed"))
    path = tmp_path / "g.pb"
    source = export_source(graph)
    source = replace(source, sample_images=lambda: [np.zeros((16, 16, 3), np.uint8)])
    if name is None:
        path.write_bytes(graph.read_bytes().replace(b"letterbox", b"tileboxed"))
    elif name == "tflite":
        model = format_table.path_of(graph, "tflite").read_bytes().replace(b'"letterbox"', b'"tileboxed"')
        path = format_table.path_of(path, "tflite")
        path.write_bytes(model)
    else:
        path = format_table.write(name, source, path)
    with pytest.raises(GraphError, match="^the model says keep_aspect_ratio 'tileboxed', and this version of retrain"):
        loading.load(path)
