"""The whole way of shards in one process: workers with a network that needs no file, the ledger, and the reducer."""

import dataclasses
import itertools
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import builders
import numpy as np
import pytest
from conftest import photo

from retrain.backbones.loading import Backbone
from retrain.bottlenecks import computing, left_overs
from retrain.bottlenecks.cluster import reducing, shards, work
from retrain.bottlenecks.cluster.computing import ClusterComputing
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.store import Store
from retrain.cluster.tasks import Outcome, Task
from retrain.data.distortions import Distortions
from retrain.data.variants import Distorter, Variant
from retrain.errors import ClusterError, StoreError
from retrain.preprocessing import InputSpec


@dataclasses.dataclass
class MeanColour:
    """A runner whose bottleneck is the mean colour."""

    backbone: Backbone = Backbone("mean colour", Path("unused"), InputSpec("input", 8, 8, 0, 1), "mean", 3)
    batched, threads, at_once, engine, precision = False, 2, 1, "litert", "float32"
    model = None

    def runner_of_several(self):
        return lambda images: [pixels.mean(axis=(0, 1)).astype(np.float32) for pixels in images]


class Workers:
    """A cluster in this process, of workers that are opened already; `happens` is called after each shard."""

    def __init__(self, extractor, happens=lambda task, ledger: None):
        self.extractor, self.happens, self.done = extractor, happens, []

    def run(self, open_worker, shared, tasks):
        ledger = shared["shared"].ledger
        worker = work.Worker(self.extractor, ledger)
        for task in tasks:
            failure = "it is poison" if "poison" in task.name else None
            result = None if failure else worker(task, 1)
            self.done.append(task.value.id)
            self.happens(task, ledger)
            yield Outcome(task, result, failure, "node", 1)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(shards, "PHOTOS", 5)


@pytest.fixture
def folder(tmp_path):
    for name, number in itertools.product("ab", range(12)):
        photo(tmp_path / "photos" / name / f"{number:02}.png", (number * 20, 0, ord(name)), seed=number)
    (tmp_path / "photos" / "a" / "03.png").write_bytes(b"no image")
    return tmp_path / "photos"


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "bottlenecks" / "net", dimension=3) as opened:
        yield opened


def extractor_of(folder):
    return FeatureExtractor(folder, MeanColour(), Distorter(Distortions(random_brightness=50), 0))


def variants_of(folder):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    return [Variant(name, copy) for name in names for copy in ("", "0")]


def missing(folder, store):
    return computing.missing(variants_of(folder), extractor=extractor_of(folder), store=store)


def spread(folder, store, cluster=None, said=None):
    """Compute what is missing on a cluster; return the result, with all that was there before."""
    extractor = extractor_of(folder)
    elsewhere = ClusterComputing(
        cluster or Workers(extractor), store.folder.parent, 1, [].append if said is None else said.append
    )
    known, todo = missing(folder, store)
    extractor = dataclasses.replace(extractor, elsewhere=elsewhere)
    found = computing.compute(variants_of(folder), todo, extractor=extractor, store=store)
    return dataclasses.replace(found, rows=np.maximum(known.rows, found.rows), rejected=known.rejected | found.rejected)


def expected(folder, tmp_path):
    with Store(tmp_path / "local", dimension=3) as store:
        extractor = extractor_of(folder)
        found = computing.compute(variants_of(folder), range(48), extractor=extractor, store=store)
        return found, vectors(store, found)


def vectors(store, found):
    return store.read(found.rows[found.rows != computing.NO_ROW])


def left_in(store):
    return [path for path in store.folder.rglob("*") if path.is_file() and path.parent != store.folder]


def test_a_cluster_computes_what_this_machine_does_and_leaves_nothing(folder, store, tmp_path):
    said = []
    found, (local, local_vectors) = spread(folder, store, said=said), expected(folder, tmp_path)
    assert np.array_equal(vectors(store, found), local_vectors)
    assert np.array_equal(found.rows == computing.NO_ROW, local.rows == computing.NO_ROW)
    assert (found.rejected, found.computed, found.read) == (local.rejected, local.computed, local.read)
    assert set(found.rejected) == {"a/03.png"}
    assert left_in(store) == []
    assert missing(folder, store)[1] == []
    assert [line.split(" in ")[0] for line in said] == ["Cluster: 24 photos"]


def test_what_is_known_of_photos_comes_with_their_vectors(folder, store, tmp_path):
    found = spread(folder, store)
    known = store.properties(found.rows)
    assert np.count_nonzero(known["width"]) >= 23  # all photos but the one that is none
    with Store(tmp_path / "local", dimension=3) as local:
        rows = computing.compute(variants_of(folder), range(48), extractor=extractor_of(folder), store=local).rows
        assert np.array_equal(known, local.properties(rows))


def test_what_a_killed_run_had_computed_is_merged_by_the_next_one(folder, store, tmp_path):
    workers = Workers(extractor_of(folder), happens=interrupt_after(3))
    with pytest.raises(KeyboardInterrupt):
        spread(folder, store, workers)
    assert len(workers.done) == 3
    assert left_in(store)
    ClusterComputing(workers, store.folder.parent, 1, print).merge_left_overs(store.folder, 3)
    assert left_in(store) == []
    again = Workers(extractor_of(folder))
    found = spread(folder, store, again)
    assert set(again.done).isdisjoint(workers.done)
    assert np.array_equal(vectors(store, found), expected(folder, tmp_path)[1])


def test_a_run_without_a_cluster_merges_it_too(folder, store, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        spread(folder, store, Workers(extractor_of(folder), happens=interrupt_after(3)))
    terminal, out, _ = builders.terminal()
    before = len(missing(folder, store)[1])
    left_overs.merge(store.folder, extractor_of(folder), terminal)
    assert left_in(store) == []
    merged = before - len(missing(folder, store)[1])
    assert merged > 0
    assert out.getvalue() == f"Merged {merged} feature vectors that workers of other runs had computed.\n"
    left_overs.merge(tmp_path / "no store", extractor_of(folder), terminal)
    assert not (tmp_path / "no store").exists()


def interrupt_after(count):
    def happens(task, ledger):
        nonlocal count
        count -= 1
        if not count:
            raise KeyboardInterrupt

    return happens


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_short, flip_a_byte, Path.unlink])
@pytest.mark.parametrize("what", ["parts", "commits"])
@pytest.mark.parametrize("later", [False, True])
def test_a_damaged_part_or_commit_is_computed_again(folder, store, tmp_path, damage, what, later):
    todo = []

    def happens(task, ledger):
        if len(todo) < (1 if later else 2):
            todo.append(task.value.id)
            (path,) = (ledger.folder / what).glob(f"{todo[-1]}*")
            damage(path)
            if what == "commits" and damage is flip_a_byte:
                path.write_bytes(b"{" + path.read_bytes())
            if later:
                raise KeyboardInterrupt

    workers = Workers(extractor_of(folder), happens)
    if later:
        with pytest.raises(KeyboardInterrupt):
            spread(folder, store, workers)
        ClusterComputing(workers, store.folder.parent, 1, print).merge_left_overs(store.folder, 3)
    elif (what, damage) == ("commits", Path.unlink):  # as on a disk that only the worker sees
        with pytest.raises(StoreError, match="on a disk that all nodes share"):
            spread(folder, store, workers)
        return
    found = spread(folder, store, workers)
    assert np.array_equal(vectors(store, found), expected(folder, tmp_path)[1])
    assert {workers.done.count(name) for name in todo} == {2}


def test_a_disk_that_damages_all_ends_the_run_in_one_line(folder, store):
    def happens(task, ledger):
        for path in (ledger.folder / "parts").iterdir():
            cut_short(path)

    with pytest.raises(StoreError, match="does not keep what workers write"):
        spread(folder, store, Workers(extractor_of(folder), happens))


def test_copies_of_a_photo_share_a_row(folder, store):
    for number in range(12):
        (folder / "b" / f"{number:02}.png").write_bytes((folder / "a" / "05.png").read_bytes())
    found = spread(folder, store)
    assert len(set(found.rows[24:])) == 2
    assert store.folder.joinpath("vectors.f32").stat().st_size == 22 * 3 * 4


def test_a_repeated_shard_is_harmless(folder, store, tmp_path):
    found = spread(folder, store)
    before = store.folder.joinpath("vectors.f32").read_bytes()
    elsewhere = ClusterComputing(Workers(extractor_of(folder)), store.folder.parent, 1, print)
    extractor = dataclasses.replace(extractor_of(folder), elsewhere=elsewhere)
    again = computing.compute(variants_of(folder), range(48), extractor=extractor, store=store)
    assert np.array_equal(again.rows, found.rows)
    assert store.folder.joinpath("vectors.f32").read_bytes() == before


def test_of_two_workers_that_do_one_shard_one_wins_and_both_end_well(folder, store):
    both_compute = threading.Barrier(2)

    class Slow(MeanColour):
        threads = 1

        def runner_of_several(self):
            both_compute.wait()
            return super().runner_of_several()

    extractor = dataclasses.replace(extractor_of(folder), runner=Slow())
    ledger = ClusterComputing(None, store.folder.parent, 1, print).ledger(store.folder)
    shard = shards.shard_of(variants_of(folder)[:10], extractor, "net", lambda path: None)
    worker, outcomes = work.Worker(extractor, ledger), []
    threads = [threading.Thread(target=lambda: outcomes.append(worker(Task("", shard), 1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [work.LOST, work.WON]
    (part,) = (ledger.folder / "parts").iterdir()
    commit = ledger.commit(shard.id)
    assert commit.part == part.name
    assert len(ledger.entries(commit, 3)) == 10
    assert worker(Task("", shard), 1) == work.LOST  # and computes nothing: no other one waits at the barrier


def test_a_poison_shard_is_named_after_all_others_are_stored(folder, store):
    (folder / "b" / "00.png").rename(folder / "b" / "00 poison.png")
    with pytest.raises(ClusterError, match=r"the photos b/00 poison\.png to b/04\.png could not .* it is poison\. All"):
        spread(folder, store)
    left = missing(folder, store)[1]
    assert [variants_of(folder)[index].path for index in left[::2]] == [
        "b/00 poison.png", "b/01.png", "b/02.png", "b/03.png", "b/04.png",
    ]  # fmt: skip


def test_photos_with_a_vector_of_an_older_cache_are_read_here(folder, store):
    old = {"a/00.png": np.array([1, 2, 3], np.float32)}
    extractor = extractor_of(folder)
    elsewhere = ClusterComputing(Workers(extractor), store.folder.parent, 1, print)
    extractor = dataclasses.replace(extractor, elsewhere=elsewhere, legacy_vector=old.get)
    found = computing.compute(variants_of(folder), range(48), extractor=extractor, store=store)
    assert store.read(found.rows[:1]).tolist() == [[1, 2, 3]]
    assert (found.legacy, found.computed) == (1, 45)


def test_progress_reaches_all_variants(folder, store):
    seen = []
    elsewhere = ClusterComputing(Workers(extractor_of(folder)), store.folder.parent, 1, print)
    extractor = dataclasses.replace(extractor_of(folder), elsewhere=elsewhere)
    computing.compute(
        variants_of(folder), range(48), extractor=extractor, store=store, advance=lambda *row: seen.append(row)
    )
    assert seen == sorted(seen)
    assert seen[-1] == (48, 48)


def test_a_commit_that_another_run_has_merged_meanwhile_is_no_loss(folder, store, tmp_path):
    def happens(task, ledger):
        reducing.merge_left_overs(ledger, store.folder, 3)

    found = spread(folder, store, Workers(extractor_of(folder), happens))
    assert np.array_equal(vectors(store, found), expected(folder, tmp_path)[1])


def test_parts_of_killed_workers_go_after_a_day(folder, store, monkeypatch):
    parts = store.folder / "parts"
    parts.mkdir()
    (parts / "abc-1-123").write_bytes(b"half a part")
    elsewhere = ClusterComputing(None, store.folder.parent, 1, print)
    elsewhere.merge_left_overs(store.folder, 3)
    assert left_in(store)
    os.utime(parts / "abc-1-123", (1, 1))
    elsewhere.merge_left_overs(store.folder, 3)
    assert left_in(store) == []


@pytest.mark.skipif(os.name != "posix", reason="only there, a process can be asked for")
def test_networks_of_killed_workers_go_and_no_folder_of_others_does(tmp_path, monkeypatch):
    """Workers of `label_image` keep a model in a folder whose random name may look like that of a process, too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = tmp_path / f"{work._PREFIX}{ended.pid}_a"
    others = [tmp_path / f"{work._PREFIX}{os.getppid()}_a", tmp_path / f"retrain_worker_{ended.pid}_a"]
    for each in (gone, *others):
        each.mkdir()
    work._remove_left_overs()
    assert not gone.exists()
    assert all(each.is_dir() for each in others)
