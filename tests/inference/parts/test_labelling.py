"""Labels in parts on this machine, in one process."""

import itertools
from collections import Counter

import pytest
from builders import exported
from conftest import photo
from label_parts import joined, labelled, parts_in, printed, shared_of

from retrain.cluster.tasks import Outcome, Task
from retrain.errors import ClusterError, ExportError, UsageError
from retrain.inference import loading
from retrain.inference.lines import CSV, JSON
from retrain.inference.parts import labelling, shards, work
from retrain.inference.parts.photos import photos_of


class Counting:
    """A runner in this process that notes what it labels, and fails at what it is told."""

    def __init__(self, poison=""):
        self.poison, self.done = poison, []

    def run(self, open_worker, shared, tasks):
        worker = open_worker(2, shared)
        for task in tasks:
            if self.poison and self.poison in [each.path.name for each in task.value.photos]:
                yield Outcome(task, None, "the worker died", "node", 3)
                continue
            self.done += [str(each.path) for each in task.value.photos]
            yield Outcome(task, worker(task, 1), None, "node", 1)


@pytest.mark.parametrize("form", [CSV, JSON])
def test_the_parts_are_what_label_image_prints(model, photos, tmp_path, form):
    words = ["photos/b", "photos", "photos/*/0?.png"]
    summary = labelled(shared_of(model, tmp_path / "out", form=form), words)
    assert joined(tmp_path / "out", form) == printed(model, words, form)
    assert (summary.photos, summary.parts, summary.here, summary.unreadable) == (54, 11, 0, 1)


def test_a_run_that_was_ended_labels_what_is_missing_and_one_that_is_repeated_nothing(model, photos, tmp_path):
    def interrupt(done, total):
        if done >= 10:
            raise KeyboardInterrupt

    shared, first, rest, nothing = shared_of(model, tmp_path / "out"), Counting(), Counting(), Counting()
    with pytest.raises(KeyboardInterrupt):
        labelled(shared, ["photos"], first, advance=interrupt)
    assert len(parts_in(tmp_path / "out")) == 2
    summary = labelled(shared, ["photos"], rest)
    assert (summary.here, summary.unreadable) == (2, 1)  # one of them in a part that was there
    assert not set(first.done) & set(rest.done)
    assert len(first.done + rest.done) == 23
    assert joined(tmp_path / "out", CSV) == printed(model, ["photos"], CSV)
    summary = labelled(shared, ["photos"], nothing)
    assert (nothing.done, summary.here, summary.unreadable) == ([], 5, 1)
    assert summary.lines("out")[0] == "23 photos: all 5 parts were there, in out"


def test_photos_that_have_changed_are_labelled_again_in_place_of_the_old_ones(model, photos, tmp_path):
    shared, again = shared_of(model, tmp_path / "out"), Counting()
    labelled(shared, ["photos"])
    photo(photos / "b" / "10.png", (1, 2, 3))
    summary = labelled(shared, ["photos"], again)
    assert again.done == ["photos/b/08.png", "photos/b/09.png", "photos/b/10.png"]
    assert (summary.replaced, len(parts_in(tmp_path / "out"))) == (1, 5)
    assert joined(tmp_path / "out", CSV) == printed(model, ["photos"], CSV)


def test_parts_of_another_list_stay_and_are_named(model, photos, tmp_path):
    shared, paths = shared_of(model, tmp_path / "out"), [each.path for each in photos_of(["photos"])]
    labelled(shared, [], listed=paths[:5])
    (old,) = parts_in(tmp_path / "out")
    summary = labelled(shared, [], listed=paths[5:10])
    assert summary.others == [old]
    assert old in "\n".join(summary.lines("out"))
    assert len(parts_in(tmp_path / "out")) == 2


def test_parts_of_another_run_are_neither_mixed_with_these_nor_removed(model, photos, tmp_path):
    shared = shared_of(model, tmp_path / "out")
    labelled(shared, ["photos"])
    before = parts_in(tmp_path / "out")
    with pytest.raises(UsageError, match="parts of another model, other photos or other flags"):
        labelled(shared, ["photos"], run="1" * 8)
    assert parts_in(tmp_path / "out") == before


def test_a_run_is_known_by_model_flags_and_words(model, tmp_path, mean_colour_backbone):
    shared = shared_of(model, tmp_path)
    other = loading.load(exported(mean_colour_backbone, tmp_path / "g.pb", labels=("a", "b", "c")))
    known = [
        labelling.run_id(model, shared, ["photos"]),
        labelling.run_id(other, shared_of(other, tmp_path), ["photos"]),
        labelling.run_id(model, shared, ["photos", "more"]),
        *(labelling.run_id(model, shared_of(model, tmp_path, **{name: value}), ["photos"]) for name, value in (
            ("form", JSON), ("k", 1), ("min_score", 0.5), ("views", 2),
        )),
    ]  # fmt: skip
    assert len(set(known)) == len(known)
    assert labelling.run_id(model, shared_of(model, tmp_path / "elsewhere"), ["photos"]) == known[0]


def test_the_first_part_is_there_before_the_listing_ends(model, photos, tmp_path):
    listed, found = [], []

    def endless():
        for path in itertools.cycle(["photos/a/00.png", "photos/a/01.png"]):
            listed.append(path)
            yield tmp_path / path

    def look(done, total):
        found.append((len(listed), total))
        raise KeyboardInterrupt

    shared = shared_of(model, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        labelled(shared, [], Counting(), listed=endless(), advance=look)
    assert found == [(5, 0)]


def test_photos_that_fail_as_a_whole_are_named_after_all_others_are_labelled(model, photos, tmp_path):
    with pytest.raises(
        ClusterError, match=r"the photos photos/a/05.png to photos/a/09.png could not .*the worker died"
    ):
        labelled(shared_of(model, tmp_path / "out"), ["photos"], Counting("06.png"))
    # The photos of the other folder with that name are lost, too.
    assert len(parts_in(tmp_path / "out")) == 3


def test_the_first_of_two_workers_writes_the_part(model, photos, tmp_path):
    shared = shared_of(model, tmp_path / "out")
    worker = work.open_worker(1, {"shared": shared})
    (shard, *_) = shards.shards(photos_of(["photos/a"]), "0" * 8, CSV)
    assert worker(Task("", shard), 1) == work.Part(5, 0)
    (tmp_path / "out" / shard.part).write_text("the first one's\nx.png,,,,no image\n")
    assert worker(Task("", shard), 1) == worker(Task("", shard), 2) == work.Part(5, 1)
    assert (tmp_path / "out" / shard.part).read_text().startswith("the first one's")


def test_a_model_that_travels_gives_the_same(model, photos, tmp_path):
    shared = shared_of(work.shipped(model), tmp_path / "out", folders=[photos])
    labelled(shared, ["photos"])
    assert joined(tmp_path / "out", CSV) == printed(model, ["photos"], CSV)


def test_a_node_without_the_photos_or_the_results_says_so(model, photos, tmp_path):
    travelling = work.shipped(model)
    with pytest.raises(ClusterError, match="has no .*gone. Photos lie on a disk that all nodes have"):
        work.open_worker(1, {"shared": shared_of(travelling, tmp_path, folders=[tmp_path / "gone"])})
    with pytest.raises(ClusterError, match="has no .*00.png"):
        labelled(shared_of(travelling, tmp_path / "out", home=tmp_path / "elsewhere"), ["photos"])

    class Elsewhere:
        def run(self, open_worker, shared, tasks):
            yield from (Outcome(task, work.Part(5, 0), None, "far", 1) for task in tasks)

    with pytest.raises(ExportError, match="what far wrote to .* is not to be seen on this machine"):
        labelled(shared_of(model, tmp_path / "out"), ["photos"], Elsewhere())


def test_a_folder_that_cannot_be_written_is_one_line(model, photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="Give another --results"):
        labelled(shared_of(model, tmp_path / "file"), ["photos"])


def test_results_may_lie_among_the_photos(model, photos, tmp_path):
    expected = printed(model, ["photos"], CSV)
    shared, again = shared_of(model, photos / "labels"), Counting()
    labelled(shared, ["photos"])
    assert joined(photos / "labels", CSV) == expected
    labelled(shared, ["photos"], again)
    assert again.done == []


def test_a_summary_says_how_fast_each_node_was():
    nodes = Counter(b=100, a=300)
    summary = labelling.Summary(photos=450, parts=5, here=1, nodes=nodes, took=10.0)
    assert summary.lines("out") == [
        "400 photos in 10.0 s, 40 photos/s on 2 nodes (a 30, b 10): 5 parts in out, 1 of them there before"
    ]
