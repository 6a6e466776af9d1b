"""What exists in the world and must go on working: fingerprints, keys of files, checkpoints of interrupted runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrain.backbones import catalogue
from retrain.backbones.loading import Backbone, load_backbone, write_backbone
from retrain.backbones.sources import BackboneSource
from retrain.data.dataset import Example
from retrain.data.distortions import Distortions
from retrain.data.split import Split
from retrain.evaluation import paired, runs
from retrain.evaluation.paired import PhotoPrediction
from retrain.evaluation.runs import RunRecord
from retrain.graphs.freezing import FrozenGraph
from retrain.head import Head, Layer
from retrain.metadata import Metadata, TrainingSplit
from retrain.preprocessing import InputSpec
from retrain.training.checkpoints import identity_of
from retrain.training.recipe import FineTuningPlan, HeadRecipe


def folder_name(spec, content):
    return BackboneSource(spec, "weights", content, 0).folder_name


def test_stores_keep_their_names():
    """A changed fingerprint would compute every store in the world anew."""
    assert folder_name(catalogue.find("mobilenet_0.25_128"), "0" * 64) == "mobilenet_0.25_128-afb957a227850aeb"
    lite = catalogue.find("efficientnet_lite0")
    assert folder_name(lite, lite.sha256) == "efficientnet_lite0-595ca1cca4ab97b0"
    assert folder_name(catalogue.find("keras:MobileNetV2"), "imagenet 3.15.1") == "keras_MobileNetV2-7de0594b3b7f99e4"
    hub = catalogue.from_hub("https://example.com/m/1")
    assert folder_name(hub, "1" * 64) == "https___example.com_m_1-659c4d59802e25c4"


def test_engines_and_precisions_have_stores_of_their_own():
    lite = BackboneSource(catalogue.find("efficientnet_lite0"), "weights", "0" * 64)
    stores = {
        (engine, precision): replace(lite, engine=engine, precision=precision, calibration=calibration).fingerprint
        for engine in ("litert", "openvino")
        for precision, calibration in (("float32", ""), ("bfloat16", ""), ("int8", "a" * 64))
    }
    # LiteRT and TensorFlow in float32 are what there was before engines had names.
    assert stores["litert", "float32"] == lite.fingerprint == replace(lite, engine="tensorflow").fingerprint
    assert len(set(stores.values())) == 6
    assert replace(lite, precision="int8", calibration="b" * 64).fingerprint not in stores.values()
    assert stores["openvino", "float32"] == "1f21eb3a350eb8f4"
    assert stores["openvino", "bfloat16"] == "d7f854e56eaa4088"
    assert stores["litert", "int8"] == "9e06741ea5d89045"


def test_distorted_copies_keep_their_tag():
    assert Distortions(True, 10, 5, 1, 2, 3, 4, 6).tag == "3bb5436d114c"


def test_an_interrupted_fine_tuning_is_recognised_again():
    examples = (Example("a/1.jpg", 0, Split.TRAINING), Example("b/2.jpg", 1, Split.VALIDATION))
    plan = FineTuningPlan(
        start="block_13", recipe=HeadRecipe(learning_rate=0.003), steps=500, batch_size=32, steps_per_evaluation=25,
        seed=0, patience=None, checkpoint=Path("c.npz"), strategy=None,
    )  # fmt: skip
    head = Head((Layer(np.array([[0.0, 1.0]], np.float32), np.array([2.0, 3.0], np.float32)),))
    identity = identity_of("f" * 16, "block_13", plan, tag=Distortions().tag, examples=examples, head=head)
    assert identity == "1c62bf9513e266b6d311667013c4509cab2f88530f996369aad1922fe188d344"


def test_metadata_keep_their_flat_keys():
    metadata = Metadata(("a", "b"), InputSpec("input", 1, 2, 3.0, 4.0), "out", "bn", "arch", 0.5, "0.1.0", "2.21", "ff")
    assert metadata.to_json() == (
        '{"architecture": "arch", "bottleneck": "bn", "graph_sha256": "ff", "height": 1, "input": "input", '
        '"labels": ["a", "b"], "mean": 3.0, "output": "out", "retrain_version": "0.1.0", "std": 4.0, '
        '"tensorflow_version": "2.21", "test_accuracy": 0.5, "width": 2}'
    )
    assert Metadata.from_json(metadata.to_json()) == metadata
    split = TrainingSplit(10, 12.5, folders=True).with_contents([b"photo and more"], "tag/0/0")
    assert (
        '"split": {"contents": "cGhvdG8=", "copy": "tag/0/0", "folders": true, "testing": 12.5, "validation": 10}'
        in replace(metadata, split=split).to_json()
    )


RECORD = """{
 "format": "retrain run 1",
 "started": "2026-11-25T14:05:09+01:00",
 "seconds": 3.2,
 "command": [
  "retrain",
  "my photos"
 ],
 "image_dir": "/home/me/my photos",
 "architecture": "mobilenet_bundled",
 "classes": [
  "a",
  "b"
 ],
 "photos": 90,
 "steps": 500,
 "random_seed": 0,
 "test_accuracy": 0.5,
 "test_interval": [
  0.25,
  0.75
 ],
 "test_count": 8,
 "graph_sha256": "ff",
 "settings": {
  "dropout": 0.5
 },
 "versions": {
  "retrain": "0.1.0"
 }
}
"""


def test_the_files_of_a_run_keep_their_form(tmp_path):
    record = RunRecord(
        started="2026-11-25T14:05:09+01:00", seconds=3.2, command=["retrain", "my photos"],
        image_dir="/home/me/my photos", architecture="mobilenet_bundled", classes=["a", "b"], photos=90, steps=500,
        random_seed=0, test_accuracy=0.5, test_interval=[0.25, 0.75], test_count=8, graph_sha256="ff",
        settings={"dropout": 0.5}, versions={"retrain": "0.1.0"},
    )  # fmt: skip
    assert json.loads(record.to_json()) == {**json.loads(RECORD), "cross_validation": []}
    assert RunRecord.from_json(RECORD) == record
    later = json.dumps({**json.loads(RECORD), "format": "retrain run 2", "of_a_later_version": 1})
    assert RunRecord.from_json(later) == record
    photos = [PhotoPrediction("a/1.jpg", "a", "b", 0.75), PhotoPrediction("b/=2.jpg", "b", "b", 1.0)]
    csv = b"image,true,predicted,score\na/1.jpg,a,b,0.750000\nb/=2.jpg,b,b,1.000000\n"
    assert paired.encode(photos) == csv
    assert paired.decode(csv) == photos
    kept = runs.keep(tmp_path / "runs", None, record, {runs.PREDICTIONS: csv})
    assert kept == tmp_path / "runs" / "2026-11-25_14-05-09"
    assert {path.name for path in kept.iterdir()} == {"run.json", "predictions.csv"}


def test_a_backbone_that_is_frozen_already_is_read_by_its_flat_keys(tmp_path):
    import tensorflow as tf

    row = {"architecture": "a", "graph": "backbone.pb", "source": "input", "target": "t", "height": 1, "width": 2}
    row |= {"mean": 3.0, "std": 4.0, "dimension": 5}
    (tmp_path / "backbone.json").write_text(json.dumps(row))
    (tmp_path / "backbone.pb").write_bytes(b"frozen")
    source = BackboneSource(catalogue.find("mobilenet_bundled"), "weights", "0" * 64, 0)
    backbone = load_backbone(source, tmp_path, build=lambda source: pytest.fail("frozen again"))
    assert backbone == Backbone("a", tmp_path / "backbone.pb", InputSpec("input", 1, 2, 3.0, 4.0), "t", 5)
    frozen = FrozenGraph(tf.compat.v1.GraphDef(), backbone.input, "t", 5)
    written = write_backbone(frozen, tmp_path / "new", architecture="a").graph.with_name("backbone.json")
    assert json.loads(written.read_text()) == row
