"""What exists in the world and must go on working: fingerprints, keys of files, checkpoints of interrupted runs."""

import numpy as np

from retrain.backbones import catalogue
from retrain.backbones.sources import BackboneSource
from retrain.data.dataset import Example
from retrain.data.distortions import Distortions
from retrain.data.split import Split
from retrain.training.checkpoints import identity_of
from retrain.training.recipe import HeadRecipe


def folder_name(spec, content):
    return BackboneSource(spec, "weights", content, 0).folder_name


def test_stores_keep_their_names():
    """A changed fingerprint would compute every store in the world anew."""
    assert folder_name(catalogue.find("mobilenet_0.25_128"), "0" * 64) == "mobilenet_0.25_128-afb957a227850aeb"
    assert folder_name(catalogue.find("keras:MobileNetV2"), "imagenet 3.15.1") == "keras_MobileNetV2-7de0594b3b7f99e4"
    hub = catalogue.from_hub("https://example.com/m/1")
    assert folder_name(hub, "1" * 64) == "https___example.com_m_1-659c4d59802e25c4"


def test_distorted_copies_keep_their_tag():
    assert Distortions(True, 10, 5, 1, 2, 3, 4, 6).tag == "3bb5436d114c"


def test_an_interrupted_fine_tuning_is_recognised_again():
    examples = (Example("a/1.jpg", 0, Split.TRAINING), Example("b/2.jpg", 1, Split.VALIDATION))
    arrays = [np.zeros((2, 2), np.float32).tobytes()]
    recipe = HeadRecipe(learning_rate=0.003)
    assert (
        identity_of("f" * 16, "block_13", recipe, 500, 32, 8, 0, Distortions().tag, examples, arrays)
        == "9114f366232be731f16858c2900712d2103fda9e47abffac7868f579e86abcc2"
    )
