"""The original's text files are read where they can be trusted, and where not, nothing is lost."""

import io
import os
import shutil
from contextlib import ExitStack

import numpy as np
import pytest
from conftest import colour_folder, photo

from retrain import pipeline
from retrain.bottlenecks import legacy_cache
from retrain.config import RetrainConfig
from retrain.data.dataset import scan
from retrain.session import Session
from retrain.terminal import Terminal

PATHS = ["daisy/a.jpg", "daisy/b.jpg", "rose/a.jpg"]


@pytest.fixture
def photos(tmp_path):
    for number, path in enumerate(PATHS):
        photo(tmp_path / "photos" / path, (number, 2, 3))
    return tmp_path / "photos"


def vector(seed):
    return np.random.default_rng(seed).normal(size=5).astype(np.float32)


def cached(tmp_path, network="mobilenet_1.0_224"):
    """Write files as the original did: `','.join(str(x) for x in values)`."""
    for number, path in enumerate(PATHS):
        file = tmp_path / "bottlenecks" / f"{path}_{network}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(",".join(str(value) for value in vector(number)))
    return tmp_path / "bottlenecks"


def find(tmp_path, photos, network="mobilenet_1.0_224"):
    return legacy_cache.find(tmp_path / "bottlenecks", photos, PATHS, network)


def test_every_vector_comes_back_as_it_was(tmp_path, photos):
    cached(tmp_path)
    cache = find(tmp_path, photos)
    assert (len(cache.files), cache.dimension) == (3, 5)
    for number, path in enumerate(PATHS):
        assert np.array_equal(cache.vector(path), vector(number))


def test_a_hub_modules_files_are_found_by_its_handle(tmp_path, photos):
    cached(tmp_path, "https~tfhub.dev~google~imagenet~inception_v3~feature_vector~3")
    handle = "https://tfhub.dev/google/imagenet/inception_v3/feature_vector/3"
    assert len(find(tmp_path, photos, handle).files) == 3
    assert find(tmp_path, photos) is None


def test_no_folder_or_another_network_means_no_cache(tmp_path, photos):
    assert find(tmp_path, photos) is None
    cached(tmp_path, "inception_v3")
    assert find(tmp_path, photos) is None


@pytest.mark.parametrize("content", ["", "1,2,x,4,5", "1,2,3", "1,2,3,4,nan", "1,2,3,4,inf", "\0\0\0\0", "ü"])
def test_a_damaged_file_is_refused_and_counted(tmp_path, photos, content):
    (cached(tmp_path) / "daisy" / "b.jpg_mobilenet_1.0_224.txt").write_text(content)
    cache = find(tmp_path, photos)
    assert cache.vector("daisy/b.jpg") is None
    assert cache.refused == {"damaged": {"daisy/b.jpg"}}
    assert cache.vector("rose/a.jpg") is not None


def test_a_photo_that_was_replaced_since_is_refused(tmp_path, photos):
    file = cached(tmp_path) / "daisy" / "a.jpg_mobilenet_1.0_224.txt"
    os.utime(file, (1, 1))
    cache = find(tmp_path, photos)
    assert cache.vector("daisy/a.jpg") is None
    assert cache.refused == {"older than their photos": {"daisy/a.jpg"}}


@pytest.mark.parametrize("place", [shutil.copy2, shutil.move, os.link])
def test_an_older_photo_that_took_the_place_of_another_since_is_refused(tmp_path, photos, place):
    other = photo(tmp_path / "other.jpg", (200, 2, 3))
    os.utime(other, (10**9, 10**9))
    cached(tmp_path)
    (photos / "daisy" / "a.jpg").unlink()
    place(other, photos / "daisy" / "a.jpg")
    cache = find(tmp_path, photos)
    assert cache.vector("daisy/a.jpg") is None
    assert cache.refused == {"older than their photos": {"daisy/a.jpg"}}
    assert cache.vector("daisy/b.jpg") is not None


def test_a_photo_or_a_file_that_went_away_is_no_vector(tmp_path, photos):
    cached(tmp_path)
    cache = find(tmp_path, photos)
    (photos / "daisy" / "a.jpg").unlink()
    cache.files["daisy/b.jpg"].unlink()
    assert [cache.vector(path) for path in PATHS[:2]] == [None, None]


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({}, True),
        ({"image_size": 128}, True),
        ({"input_mean": 127.5}, True),
        ({"image_size": 96}, False),
        ({"input_height": 96}, False),
        ({"input_mean": 0.0}, False),
        ({"input_std": 255.0}, False),
        ({"weights": "own.npz"}, False),
        ({"bottleneck_tensor": "conv_pw_13"}, False),
        ({"architecture": "mobilenet_0.25_128"}, True),
        ({"architecture": "mobilenet_0.25_128", "bottleneck_tensor": "MobilenetV1/Predictions/Reshape"}, True),
        ({"architecture": "mobilenet_0.25_128", "bottleneck_tensor": "MobilenetV1/Logits/SpatialSqueeze"}, False),
        ({"architecture": "keras:MobileNet", "weights": "imagenet"}, True),
        ({"architecture": "keras:MobileNet", "weights": "random"}, False),
        ({"keep_aspect_ratio": "crop"}, False),
        ({"tfhub_module": "https://tfhub.dev/x"}, True),
        ({"tfhub_module": "https://tfhub.dev/x", "input_std": 1.0}, False),
    ],
)
def test_only_a_network_as_its_name_says_takes_the_originals_files(tmp_path, settings, same):
    config = RetrainConfig(image_dir=tmp_path, **{"architecture": "mobilenet_bundled", **settings})
    assert pipeline._computes_what_its_name_says(config, pipeline._spec(config)) is same


@pytest.mark.slow
def test_files_of_the_network_as_its_name_says_are_named_and_not_taken(tmp_path):
    folder = colour_folder(tmp_path / "photos", per_class=4)
    for path in folder.rglob("*.png"):
        file = tmp_path / "b" / path.parent.name / f"{path.name}_mobilenet_bundled.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(",".join(["1.0"] * 512))
    err = io.StringIO()
    config = RetrainConfig(
        image_dir=folder, bottleneck_dir=tmp_path / "b", architecture="mobilenet_bundled", image_size=64,
        input_mean=0.0, input_std=255.0,
    )  # fmt: skip
    with ExitStack() as opened:
        session = Session(Terminal(out=io.StringIO(), err=err), opened)
        prepared = pipeline._prepare(config, scan(folder), pipeline.Computing(None), session)
        vectors = prepared.read(np.arange(len(prepared.variants.rows)))
    assert not (vectors == 1).all(axis=1).any()
    assert "12 of the original's .txt files" in err.getvalue()
    assert "its own input" in err.getvalue()
