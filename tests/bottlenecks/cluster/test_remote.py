"""Photos, parts and commits at a URL, and shards that are computed while the listing goes on."""

import hashlib
import io
import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import colour_folder

from retrain.bottlenecks import ahead
from retrain.bottlenecks.cluster import shards
from retrain.bottlenecks.cluster.ledger import Ledger
from retrain.bottlenecks.cluster.parts import Commit, pack, part_name
from retrain.bottlenecks.cluster.reducing import Reducer, merge_left_overs
from retrain.bottlenecks.photos import NO_STAMP
from retrain.bottlenecks.preparation import PreparationSettings, prepare
from retrain.bottlenecks.store import INDEX, Entry, Store
from retrain.cluster.here import Here
from retrain.config import RetrainConfig
from retrain.data.dataset import scan
from retrain.data.distortions import Distortions
from retrain.data.split import SplitRule
from retrain.data.variants import Distorter
from retrain.errors import DatasetError, StoreError
from retrain.pipeline import retrain
from retrain.storage import access
from retrain.storage.folders import folder
from retrain.storage.stamps import Stamp
from retrain.terminal import Terminal

pytestmark = pytest.mark.slow
RULE = SplitRule()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(shards, "PHOTOS", 6)


@pytest.fixture
def local(tmp_path):
    return colour_folder(tmp_path / "photos", per_class=20)


@pytest.fixture
def settings(tmp_path):
    distorter = Distorter(Distortions(random_brightness=30), 0)
    return PreparationSettings(tmp_path / "bottlenecks", distorter, copies=2, cluster=Here())


def prepared(photos, source, settings):
    """Prepare all photos and return what is said of it."""
    out = io.StringIO()
    with ExitStack() as opened:
        terminal = Terminal(out=out, err=io.StringIO(), level=logging.INFO)
        prepare(scan(photos), source, settings, None, terminal=terminal, opened=opened)
    return out.getvalue()


def stored(settings, source, image_dir):
    with Store(settings.bottleneck_dir / source.folder_name, dimension=3) as store:
        return store.count(image_dir)


@pytest.mark.parametrize("copies", [0, 2])
def test_what_is_computed_during_the_listing_is_all_that_is_needed(bucket, local, source, settings, copies):
    photos, settings = folder(bucket.upload(local, "photos")), replace(settings, copies=copies)
    listing = ahead.Listing(photos, RULE, copies=copies)
    count = ahead.compute(listing, source, settings, Terminal(quiet=True))
    assert listing.dataset().examples == scan(photos).examples
    reads = len(bucket.reads())
    text = prepared(photos, source, settings)
    assert "all from the cache" in text
    assert len(bucket.reads()) == reads
    assert count == stored(settings, source, photos)


def test_the_first_vectors_are_stored_before_the_listing_ends(bucket, local, source, settings, monkeypatch):
    photos = folder(bucket.upload(local, "photos"))
    listing = ahead.Listing(photos, RULE, copies=0)
    listing.dataset()
    chunks, seen = listing.chunks(), []

    def slowly():
        for chunk in chunks:
            seen.append(stored(settings, source, photos) if seen else 0)
            yield chunk

    monkeypatch.setattr(listing, "chunks", slowly)
    ahead.compute(listing, source, replace(settings, copies=0), Terminal(quiet=True))
    assert seen == sorted(seen)
    assert 0 < seen[2] < seen[-1]


def test_a_mistake_of_the_listing_comes_as_it_does_without_a_cluster(bucket, local, source, settings):
    for name in ("magenta", "yellow"):
        for path in (local / name).iterdir():
            path.unlink()
    photos = folder(bucket.upload(local, "photos"))
    listing = ahead.Listing(photos, RULE, copies=0)
    ahead.compute(listing, source, settings, Terminal(quiet=True))
    with pytest.raises(DatasetError) as found:
        listing.dataset()
    with pytest.raises(DatasetError) as expected:
        scan(photos)
    assert str(found.value) == str(expected.value)


def test_parts_at_a_url_serve_other_machines_and_the_graph_is_the_same(
    bucket, local, mean_colour_backbone, tmp_path, monkeypatch
):
    photos = bucket.upload(local, "photos")
    (local / "cyan" / "bad.png").write_bytes(b"no image")
    bucket.put("photos/cyan/bad.png", b"no image")

    def run(name, **flags):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        out, err = io.StringIO(), io.StringIO()
        options = {"how_many_training_steps": 20, "flip_left_right": True, "distortion_copies": 1, "folds": 0}
        options |= {"architecture": str(mean_colour_backbone), "engine": "litert", "bottleneck_tensor": "mean_colour"}
        retrain(RetrainConfig(**options, **flags), Terminal(out=out, err=err))
        return Path("tf_files/retrained_graph.pb").read_bytes(), out.getvalue()

    here, _ = run("here", image_dir=local)
    parts = folder(f"{bucket.url}/bottlenecks")
    first, said = run("first", image_dir=folder(photos), bottleneck_dir=parts)
    assert first == here
    assert "61 photos" in said
    (name,) = access.of(parts).folders()
    storage = access.of(parts / name)
    commits, kept = (sum(len(page) for page in storage.pages(below)) for below in ("commits", "parts"))
    assert commits == kept > 9
    second, said = run("second", image_dir=folder(photos), bottleneck_dir=parts)
    assert second == here
    assert "that workers of other runs had computed" in said
    assert "all from the cache" in said
    store = Path("tf_files/bottlenecks") / name
    assert (store / INDEX).exists()
    assert merge_left_overs(Ledger(parts / name), store, 3) == 0  # what was merged once is not read again


@pytest.mark.parametrize(("stamp", "stays"), [(Stamp(1, 2, 3), True), (NO_STAMP, False)])
def test_a_commit_with_photos_that_may_be_read_later_does_not_stay(bucket, tmp_path, stamp, stays):
    """Otherwise the next run would find the same shard done, and the photos rejected, for good."""
    ledger = Ledger(folder(f"{bucket.url}/parts"))
    entries = [Entry("a/1.jpg", stamp, reason="Permission denied", decoder="pillow 1")]
    data, identity = pack(entries, 3), "0" * 32
    part = part_name(identity, 1)
    ledger.write_part(part, data)
    digest = hashlib.sha256(data).hexdigest()
    assert ledger.publish(Commit(identity, part, digest, "photos", 1, {}, {}, took=1, node="", time=1))
    with Store(tmp_path / "store", dimension=3) as store:
        Reducer(store, ledger).merge_all(ledger.ids())
    assert ledger.is_committed(identity) == stays


def test_a_bucket_for_parts_that_is_not_there_is_said_in_one_line(bucket, local, source, settings):
    settings = replace(settings, parts=folder("s3://there-is-no-such-bucket/bottlenecks"))
    with pytest.raises(
        StoreError, match=r"^cannot write to s3://there-is-no-such-bucket/bottlenecks/.*bucket is there"
    ):
        prepared(local, source, settings)
