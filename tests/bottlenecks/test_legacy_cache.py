"""The original's text files are read where they can be trusted, and where not, nothing is lost."""

import os

import numpy as np
import pytest
from conftest import photo

from retrain.bottlenecks import legacy_cache

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
