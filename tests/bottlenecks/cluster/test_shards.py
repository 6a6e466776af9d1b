import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.bottlenecks.cluster import parts, shards
from retrain.bottlenecks.cluster.ledger import Ledger
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.store import Entry
from retrain.data.distortions import Distortions
from retrain.data.variants import Distorter, Variant
from retrain.storage.stamps import Stamp

FILES = st.lists(st.integers(0, 10**6), max_size=12, unique=True)
FOLDERS = st.dictionaries(st.sampled_from("abcd"), FILES)


@pytest.fixture(autouse=True, scope="module")
def small():
    """Shards of three photos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "PHOTOS", 3)
        yield


def paths_of(folders):
    return [f"{name}/{file:07}.jpg" for name in sorted(folders) for file in sorted(set(folders[name]))]


def ids_of(folders):
    paths = paths_of(folders)
    extractor = FeatureExtractor(Path("photos"), None)
    return {
        tuple(paths[index] for index in part): shards.shard_of(
            [Variant(paths[index]) for index in part], extractor, "net", lambda path: Stamp(len(path), 1, 2)
        ).id
        for part in shards.cut(paths, range(len(paths)), depth=1)
    }


@given(FOLDERS, st.sets(st.integers(0, 50)))
def test_shards_have_each_photo_that_is_missing_once_in_order(folders, indices):
    paths = paths_of(folders)
    todo = sorted(index for index in indices if index < len(paths))
    cut = list(shards.cut(paths, todo, depth=1))
    assert [index for part in cut for index in part] == todo
    chunk = {
        f"{name}/{file:07}.jpg": (name, rank // 3)
        for name, files in folders.items()
        for rank, file in enumerate(sorted(files))
    }
    assert all(len({chunk[paths[index]] for index in part}) == 1 for part in cut)


@given(FOLDERS, st.sampled_from("abcd"), FILES)
def test_new_photos_in_another_folder_change_no_shard(folders, other, files):
    before, after = ids_of(folders), ids_of({**folders, other: [*folders.get(other, []), *files]})
    elsewhere = {photos: name for photos, name in before.items() if not photos[0].startswith(f"{other}/")}
    assert elsewhere.items() <= after.items()


def test_a_shard_is_named_by_all_that_its_vectors_follow_from():
    def name(path="a/1.jpg", copy="", store="net", changed=3, folder="photos", seed=0):
        extractor = FeatureExtractor(Path(folder), None, Distorter(Distortions(random_crop=9), seed))
        stamp = Stamp(1, 2, changed) if changed else None
        return shards.shard_of([Variant(path, copy)], extractor, store, lambda path: stamp).id

    changed = [{"path": "a/2.jpg"}, {"store": "net2"}, {"changed": 4}, {"changed": 0}, {"folder": "others"}]
    changed += [{"copy": "1"}, {"copy": "2"}, {"copy": "2", "seed": 1}]
    ids = [name(), *(name(**each) for each in changed)]
    assert len(set(ids)) == len(ids)
    assert name() == name()


def test_folders_of_a_ready_made_split_are_folders_of_their_own():
    paths = ["train/a/1.jpg", "train/a/x/2.jpg", "test/a/1.jpg"]
    assert list(shards.cut(paths, range(3), depth=2)) == [[0, 1], [2]]


TEXTS = st.text(st.characters(), min_size=1)
ENTRIES = st.lists(
    st.tuples(TEXTS, st.integers(0, 2**62), st.binary(min_size=32, max_size=32), st.none() | TEXTS), max_size=6
)


@given(ENTRIES)
def test_a_part_gives_back_what_was_put_in(rows):
    entries = [
        Entry(name, Stamp(number, 1, 2), reason=reason, decoder="pillow 1")
        if reason
        else Entry(name, Stamp(number, 1, 2), key, np.arange(4, dtype=np.float32) + len(name))
        for name, number, key, reason in rows
    ]
    back = parts.unpack(parts.pack(entries, 4), 4)
    assert [(e.name, e.stamp, e.key, e.reason, e.decoder) for e in back] == [
        (e.name, e.stamp, e.key, e.reason, e.decoder) for e in entries
    ]
    assert all(np.array_equal(e.vector, f.vector) for e, f in zip(back, entries, strict=True) if e.reason is None)


def test_a_part_of_another_network_is_refused():
    part = parts.pack([Entry("a", Stamp(1, 2, 3), b"k" * 32, np.zeros(4, np.float32))], 4)
    with pytest.raises(ValueError, match="another network"):
        parts.unpack(part, 5)
    for damaged in (b"", part[:-50], part[200:]):
        with pytest.raises(ValueError, match=r"."):
            parts.unpack(damaged, 4)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", json.dumps({"id": 1}).encode(), b"[" * 10**5, b"\xff\xfe"]
)
def test_what_is_no_commit_is_refused(content):
    with pytest.raises(ValueError, match=r"."):
        parts.Commit.from_json(content)


COMMIT = parts.Commit(
    "0" * 32,
    f"{'0' * 32}-1-ab",
    "",
    "photos",
    variants=1,
    rejected={},
    seconds={"reading": 1.5},
    took=1,
    node="n",
    time=2,
)


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": None},
        {"seconds": {"reading": "long"}},
        {"took": None},
        {"time": float("nan")},
        {"rejected": {"a.jpg": 5}},
        {"id": "../../other"},
        {"part": "../../../photos/a.jpg"},
        {"part": f"{'0' * 32}-1-ab/../../../photos/a.jpg"},
        {"part": ""},
    ],
)
def test_a_commit_says_nothing_that_cannot_be_worked_with_and_names_no_other_file(change):
    assert parts.Commit.from_json(COMMIT.to_json()) == COMMIT
    with pytest.raises(ValueError, match=r"."):
        parts.Commit.from_json(dataclasses.replace(COMMIT, **change).to_json())


def test_files_of_others_among_the_commits_are_left_alone_and_a_commit_of_another_name_is_damaged(tmp_path):
    commits = tmp_path / "commits"
    (commits / "below").mkdir(parents=True)
    for name in ("notes.txt", f"below/{'0' * 32}"):
        (commits / name).write_text("mine")
    for name in ("0" * 32, "1" * 32):
        (commits / name).write_bytes(COMMIT.to_json())
    ledger = Ledger(tmp_path)
    assert sorted(ledger.ids()) == ["0" * 32, "1" * 32]
    assert dict(ledger.commits(ledger.ids())) == {"0" * 32: COMMIT, "1" * 32: None}
