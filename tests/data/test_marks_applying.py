"""Marks on real folders: nothing is lost, moved elsewhere or overwritten, and all of it can be undone at any moment."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.data import marks, marks_applying, marks_done
from retrain.data.dataset import scan
from retrain.data.marks import Action, Mark, Marks
from retrain.data.marks_done import Entry
from retrain.data.split import DEFAULT_SPLIT, SplitRule, group_of
from retrain.errors import DatasetError, MarksError
from retrain.files import sha256_of

KEEP, RELABEL, REMOVE = Action.KEEP, Action.RELABEL, Action.REMOVE
SOME = [
    Mark("roses/a.jpg", RELABEL, "tulips"),
    Mark("roses/b.jpg", REMOVE),
    Mark("roses/sub/c.jpg", REMOVE),
    Mark("tulips/a.jpg", KEEP),
]
# Applies marks, or undoes them, and ends as if killed before the n-th change of a file, for each n in a folder of its
# own, until nothing kills it any more. With "copy", no file can be linked, as on another file system.
KILLED = """
import os, shutil, sys
from pathlib import Path
from retrain.data import marks, marks_applying

base, what, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
changes = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copyfile", "os.truncate"}
for number in range(1, 500):
    folder = shutil.copytree(base / "start", base / str(number), symlinks=True)
    if (child := os.fork()) == 0:
        count = 0
        def hook(event, arguments):
            global count
            if event in changes or (event == "open" and not isinstance(arguments[1], type(None)) and arguments[1] != "r"
                    and ("+" in arguments[1] or set("wxa") & set(arguments[1]))):
                count += 1
                if count == number:
                    os._exit(9)
                if event == "os.link" and how == "copy":
                    raise OSError(18, "Invalid cross-device link")
        sys.addaudithook(hook)
        if what == "apply":
            marks_applying.apply(folder / "photos", marks.read(folder / "marks.jsonl"))
        else:
            marks_applying.undo(folder / "photos", folder / "photos_marks" / "applied-1.jsonl")
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 9:
        break
"""


def write(folder, contents):
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def flowers(folder):
    """Write photos, two of which have the same name and two the same content."""
    photos = {"roses/a.jpg": "1", "roses/b.jpg": "2", "roses/sub/c.jpg": "2", "tulips/a.jpg": "3", "tulips/d.jpg": "4"}
    return write(folder, photos)


def tree(folder):
    """Return everything in an image folder and in the folder of removed photos: contents by paths, None for folders."""
    found = {}
    for root in (folder, folder.with_name(f"{folder.name}_removed")):
        for path in (root, *root.rglob("*")) if root.exists() else ():
            name = os.path.relpath(path, folder.parent)
            found[name] = path.readlink() if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


def apply(folder, *marks, rule=DEFAULT_SPLIT):
    return marks_applying.apply(folder, Marks(marks, repr(marks)), rule)


NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: not name.startswith(".")
) | st.sampled_from(["a.jpg", "A.jpg", "a_nohash_1.jpg", "a\udcff.jpg", "-rf.jpg", "a\\b.jpg", "C:x.jpg", "a-2.jpg"])


def encodable(name):
    try:
        return os.fsdecode(os.fsencode(name))
    except UnicodeEncodeError:
        return None


@pytest.mark.slow
@settings(max_examples=60)
@given(
    photos=st.dictionaries(
        st.tuples(st.sampled_from(["roses", "tulips", "Ünder\udcff"]), NAMES.map(encodable).filter(bool)),
        st.tuples(st.sampled_from("1234"), st.sampled_from([None, KEEP, REMOVE, "roses", "tulips", "Ünder\udcff"])),
        min_size=1,
        max_size=8,
    )
)
def test_undone_marks_leave_the_same_tree_and_no_mark_loses_a_photo(photos):
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "photos"
        for name in ("roses", "tulips", "Ünder\udcff"):
            (folder / name).mkdir(parents=True)
        for (name, file), (content, _) in photos.items():
            (folder / name / file).write_text(content)
        start = tree(folder)
        marks = [
            Mark(f"{name}/{file}", mark) if mark in (KEEP, REMOVE) else Mark(f"{name}/{file}", RELABEL, mark)
            for (name, file), (_, mark) in photos.items()
            if mark
        ]
        outcome = apply(folder, *marks)
        after = tree(folder)
        assert Counter(filter(None, after.values())) == Counter(filter(None, start.values()))
        again = apply(folder, *marks)
        assert (tree(folder), again.done, again.gone, again.others) == (after, {}, [], [])
        assert again.before == len(marks)
        for file in outcome.lists:
            undone = marks_applying.undo(folder, file)
            assert (undone.done, undone.gone, undone.others) == (outcome.done, [], [])
        assert tree(folder) == start


def from_file(folder):
    return marks_applying.apply(folder, marks.read(folder.parent / "marks.jsonl"))


def undone(folder):
    """Undo the first list, if it was begun."""
    file = folder.with_name("photos_marks") / "applied-1.jsonl"
    return marks_applying.undo(folder, file) if file.exists() else None


@pytest.mark.slow
@pytest.mark.parametrize("how", ["link", "copy"])
@pytest.mark.parametrize("what", ["apply", "undo"])
def test_killed_at_any_change_it_is_finished_by_the_same_command_and_undone_by_the_list(tmp_path, what, how):
    folder = flowers(tmp_path / "start" / "photos")
    lines = [{"retrain_marks": 1}]
    lines += [{"path": mark.path, "mark": mark.action, "class": mark.class_name} for mark in SOME]
    (tmp_path / "start" / "marks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    start = tree(folder)
    if what == "undo":
        from_file(folder)
    subprocess.run([sys.executable, "-c", KILLED, tmp_path, what, how], check=True)
    numbers = range(1, len(list(tmp_path.iterdir())))
    assert len(numbers) > 12
    last = tree(tmp_path / str(numbers[-1]) / "photos")
    assert (last == start) is (what == "undo")
    for number in numbers:
        folder = shutil.copytree(tmp_path / str(number), tmp_path / f"{number} again") / "photos"
        from_file(folder)
        after = tree(folder)
        assert after == last or what == "undo"
        assert {"photos/tulips/a-2.jpg", "photos_removed/roses/sub/c.jpg"} <= set(after)
        assert from_file(folder).done == {}
        assert tree(folder) == after
        for file in sorted(folder.with_name("photos_marks").iterdir()):
            marks_applying.undo(folder, file)
        assert tree(folder) == start
        folder = tmp_path / str(number) / "photos"
        undone(folder)
        assert tree(folder) == start
        assert not (again := undone(folder)) or again.done == {}


def test_names_that_are_taken_get_numbers_and_photos_that_are_gone_stop_nothing(tmp_path):
    folder = flowers(tmp_path / "photos")
    write(tmp_path / "photos_removed", {"roses/b.jpg": "an earlier one"})
    start = tree(folder)
    outcome = apply(folder, Mark("roses/gone.jpg", REMOVE), Mark("lilies/x.jpg", RELABEL, "roses"), *SOME)
    assert outcome.gone == ["roses/gone.jpg", "lilies/x.jpg"]
    assert outcome.done == {RELABEL: 1, REMOVE: 2, KEEP: 1}
    found = tree(folder)
    assert found["photos/tulips/a-2.jpg"] == b"1"
    assert found["photos_removed/roses/b-2.jpg"] == b"2"
    assert found["photos_removed/roses/b.jpg"] == b"an earlier one"
    marks_applying.undo(folder, *outcome.lists)
    assert tree(folder) == start


def test_what_another_system_would_take_for_folders_is_a_name_or_not_there(tmp_path):
    folder = flowers(tmp_path / "photos")
    write(folder, {"roses/sub\\c.jpg": "5"})
    start = tree(folder)
    outcome = apply(folder, Mark("roses/sub\\c.jpg", REMOVE), Mark("C:/a.jpg", REMOVE), Mark("Roses/A.jpg", REMOVE))
    assert (outcome.done, outcome.gone) == ({REMOVE: 1}, ["C:/a.jpg", "Roses/A.jpg"])
    assert start.keys() - tree(folder).keys() == {"photos/roses/sub\\c.jpg"}


def test_photos_that_change_places_are_told_apart_when_marks_are_applied_again(tmp_path):
    rule = SplitRule(0, 0)  # which numbers no photo for its split
    folder = write(tmp_path / "photos", {"roses/a.jpg": "same", "tulips/a.jpg": "same"})
    start = tree(folder)
    marks = Mark("roses/a.jpg", RELABEL, "tulips"), Mark("tulips/a.jpg", RELABEL, "roses")
    (file,) = apply(folder, *marks, rule=rule).lists
    after = tree(folder)
    assert {"photos/tulips/a-2.jpg", "photos/roses/a-2.jpg"} <= after.keys()
    assert apply(folder, *marks, rule=rule).before == 2
    assert tree(folder) == after
    marks_applying.undo(folder, file)
    assert tree(folder) == start


@pytest.mark.parametrize("name", ["x" * 251 + ".jpg", "ö" * 120 + "_nohash_" + "1" * 7, "x." + "j" * 240])
def test_the_longest_names_get_numbers_too(tmp_path, name):
    folder = write(tmp_path / "photos", {f"roses/{name}": "1", f"tulips/{name}": "2"})
    start = tree(folder)
    outcome = apply(folder, Mark(f"roses/{name}", RELABEL, "tulips"))
    assert sorted(path.read_text() for path in (folder / "tulips").iterdir()) == ["1", "2"]
    marks_applying.undo(folder, *outcome.lists)
    assert tree(folder) == start


def test_a_photo_that_takes_the_place_of_another_is_left_alone(tmp_path):
    folder = flowers(tmp_path / "photos")
    start = tree(folder)
    (file,) = apply(folder, *SOME).lists
    write(folder, {"roses/b.jpg": "new"})
    (tmp_path / "photos_removed" / "roses" / "sub" / "c.jpg").write_text("new as well")
    changed = tree(folder)
    assert apply(folder, *SOME).others == ["roses/b.jpg"]
    assert tree(folder) == changed
    back = marks_applying.undo(folder, file)
    assert back.others == ["roses/sub/c.jpg", "roses/b.jpg"]
    assert tree(folder)["photos/roses/b.jpg"] == b"new"
    (folder / "roses" / "b.jpg").unlink()
    (tmp_path / "photos_removed" / "roses" / "sub" / "c.jpg").write_text("2")
    assert marks_applying.undo(folder, file).done == {REMOVE: 2, KEEP: 1}
    assert tree(folder) == start


def test_lists_are_undone_each_for_itself_and_may_be_begun_again(tmp_path):
    folder = flowers(tmp_path / "photos")
    start = tree(folder)
    (first,) = apply(folder, *SOME).lists
    between = tree(folder)
    second = apply(folder, Mark("roses/b.jpg", REMOVE), Mark("tulips/a-2.jpg", REMOVE))
    assert (second.done, second.before) == ({REMOVE: 1}, 1)
    assert set(second.lists) == {first, first.with_name("applied-2.jsonl")}
    assert marks_applying.undo(folder, first).gone == ["roses/a.jpg"]  # the second list has moved it on
    marks_applying.undo(folder, first.with_name("applied-2.jsonl"))
    marks_applying.undo(folder, first)
    assert tree(folder) == start
    assert apply(folder, *SOME).lists == [first.with_name("applied-3.jsonl")]
    assert tree(folder) == between


@pytest.mark.parametrize("percentage", [10, 33.3])
def test_a_relabelled_photo_keeps_its_split_and_its_near_duplicates(tmp_path, percentage):
    rule = SplitRule(percentage, percentage)
    names = [f"{number}{end}.jpg" for number in range(30) for end in ("", "_nohash_1", "_nohash_2")]
    folder = write(tmp_path / "photos", {f"roses/{name}": name for name in names} | {"tulips/x.jpg": "x"})
    apply(folder, *(Mark(f"roses/{name}", RELABEL, "tulips") for name in names), rule=rule)
    keys = {path.read_text(): f"tulips/{path.name}" for path in (folder / "tulips").iterdir()}
    assert [rule.assign(keys[name]) for name in names] == [rule.assign(f"roses/{name}") for name in names]
    for number in range(30):
        assert len({group_of(keys[f"{number}_nohash_{shot}.jpg"]) for shot in (1, 2)}) == 1


@pytest.mark.parametrize("folders", [("train", "test"), ("Training", "valid", "test_set")])
def test_in_a_ready_made_split_a_photo_stays_in_its_folder(tmp_path, folders):
    photos = {f"{folder}/{name}/{n}.jpg": folder + name + str(n) for folder in folders for name in "ab" for n in (1, 2)}
    folder = write(tmp_path / "photos", photos)
    start = tree(folder)
    before = {e.path: e.split for e in scan(folder).examples}
    outcome = apply(folder, *(Mark(f"{name}/a/1.jpg", RELABEL, "b") for name in folders))
    moved = {path.read_text(): path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}
    after = {e.path: e.split for e in scan(folder).examples}
    for name in folders:
        path = moved[f"{name}a1"]
        assert path.startswith(f"{name}/b/1-")
        assert after[path] is before[f"{name}/a/1.jpg"]
    marks_applying.undo(folder, *outcome.lists)
    assert tree(folder) == start
    with pytest.raises(MarksError, match=r"is no class folder of .*Nothing was moved\."):
        apply(folder, Mark(f"{folders[0]}/a/1.jpg", REMOVE), Mark(f"{folders[1]}/a/1.jpg", RELABEL, folders[0]))
    assert tree(folder) == start


def test_a_part_of_a_split_gets_the_folder_of_a_class_that_another_part_has(tmp_path):
    names = [f"train/{name}/{n}.jpg" for name in ("a", "b") for n in (1, 2)] + ["test/a/1.jpg", "test/a/2.jpg"]
    folder = write(tmp_path / "photos", {name: name for name in names})
    start = tree(folder)
    outcome = apply(folder, Mark("test/a/1.jpg", RELABEL, "b"))
    (moved,) = (folder / "test" / "b").iterdir()
    assert moved.read_text() == "test/a/1.jpg"
    marks_applying.undo(folder, *outcome.lists)
    after = tree(folder)
    assert after.pop("photos/test/b") is None  # an empty folder, which is no class
    assert after == start


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (Mark("/etc/passwd", REMOVE), "/etc/passwd is no path of a photo in a class folder of photos"),
        (Mark("../secret.jpg", KEEP), "is no path of a photo"),
        (Mark("roses/../../secret.jpg", REMOVE), "is no path of a photo"),
        (Mark("roses//a.jpg", REMOVE), "is no path of a photo"),
        (Mark("roses/./a.jpg", REMOVE), "is no path of a photo"),
        (Mark("loose.jpg", REMOVE), "is no path of a photo"),
        (Mark(".hidden/a.jpg", REMOVE), "is no path of a photo"),
        (Mark("roses/sub", REMOVE), "roses/sub is a folder, and photos are marked"),
        (Mark("roses/sub/", REMOVE), "is no path of a photo"),
        (Mark("roses/pipe", KEEP), "roses/pipe is no regular file"),
        (Mark("roses\\a.jpg", REMOVE), "is no path of a photo"),
        (Mark("roses/link.jpg", REMOVE), "roses/link.jpg is a link"),
        (Mark("linked/x.jpg", REMOVE), "photos/linked is a link, and nothing is moved through links"),
        (Mark("roses/inner/c.jpg", REMOVE), "inner is a link"),
        (Mark("roses/a.jpg", RELABEL, "linked"), "photos/linked is a link"),
        (Mark("roses/a.jpg", RELABEL, ".."), "'..' is no class folder of"),
        (Mark("roses/a.jpg", RELABEL, "roses/sub"), "'roses/sub' is no class folder of"),
        (Mark("roses/a.jpg", RELABEL, "/tmp"), "'/tmp' is no class folder"),
        (Mark("roses/a.jpg", RELABEL, "Tulips"), "'Tulips' is no class folder of .*Did you mean tulips"),
    ],
)
def test_what_leads_elsewhere_is_refused_before_anything_is_moved(tmp_path, mark, words):
    folder = flowers(tmp_path / "photos")
    write(tmp_path, {"secret.jpg": "s", "outside/x.jpg": "x"})
    os.mkfifo(folder / "roses" / "pipe")
    (folder / "roses" / "link.jpg").symlink_to("a.jpg")
    (folder / "roses" / "inner").symlink_to("sub")
    (folder / "linked").symlink_to(tmp_path / "outside")
    before = tree(tmp_path / "outside")
    contents = sorted(path.name for path in folder.rglob("*"))
    with pytest.raises(MarksError, match=words) as raised:
        apply(folder, Mark("roses/b.jpg", REMOVE), mark)
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in folder.rglob("*")) == contents
    assert not (tmp_path / "photos_removed").exists()
    assert tree(tmp_path / "outside") == before


@pytest.mark.parametrize("name", ["photos_removed", "photos_marks"])
@pytest.mark.parametrize("kind", ["link", "file", "link inside"])
def test_the_folders_beside_are_no_links_and_no_files(tmp_path, name, kind):
    folder = flowers(tmp_path / "photos")
    (tmp_path / "outside").mkdir()
    if kind == "link inside":
        (tmp_path / "photos_removed").mkdir()
        (tmp_path / "photos_removed" / "roses").symlink_to(tmp_path / "outside")
    elif kind == "link":
        (tmp_path / name).symlink_to(tmp_path / "outside")
    else:
        (tmp_path / name).touch()
    with pytest.raises(MarksError, match="is no folder, where one" if kind == "file" else "is a link, and nothing"):
        apply(folder, *SOME)
    assert list((tmp_path / "outside").iterdir()) == []
    assert (folder / "roses" / "b.jpg").exists()


def test_a_folder_may_be_called_by_a_link_and_what_is_removed_lies_beside_the_folder_itself(tmp_path, monkeypatch):
    folder = flowers(tmp_path / "deep" / "photos")
    (tmp_path / "short").symlink_to(folder)
    apply(tmp_path / "short", Mark("roses/b.jpg", REMOVE))
    assert (tmp_path / "deep" / "photos_removed" / "roses" / "b.jpg").read_text() == "2"
    monkeypatch.chdir(folder)
    assert apply(Path(), Mark("roses/b.jpg", REMOVE)).before == 1
    with pytest.raises(MarksError, match="is no folder in another one"):
        apply(Path("/"), Mark("roses/b.jpg", REMOVE))
    with pytest.raises(DatasetError, match="no such image folder"):
        apply(tmp_path / "gone", Mark("roses/b.jpg", REMOVE))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"path": "roses/b.jpg", "mark": "remove", "place": "../../x.jpg"}, "is no path of a photo"),
        ({"path": "../x.jpg", "mark": "relabel", "class": "tulips", "place": "tulips/a.jpg"}, "is no path of a photo"),
        ({"path": "roses/b.jpg", "mark": "remove"}, 'line 5 .* its "place" is missing'),
        ({"path": "roses/b.jpg", "mark": "remove", "place": "roses/b.jpg", "sha256": "x"}, "its \"sha256\" is 'x'"),
    ],
)
def test_a_list_that_was_changed_leads_nowhere_else(tmp_path, line, words):
    folder = flowers(tmp_path / "photos")
    (file,) = apply(folder, *SOME[:3]).lists
    write(tmp_path, {"x.jpg": "x"})
    with file.open("a") as changed:
        changed.write(json.dumps({"sha256": "0" * 64} | line) + "\n")
    before = tree(folder)
    with pytest.raises(MarksError, match=words):
        marks_applying.undo(folder, file)
    assert tree(folder) == before


def test_a_list_of_a_photo_that_was_moved_to_itself_loses_nothing(tmp_path):
    folder = flowers(tmp_path / "photos")
    (tmp_path / "photos_marks").mkdir()
    done = marks_done.create(tmp_path / "photos_marks", "photos", "x")
    sha256 = sha256_of(folder / "roses" / "a.jpg")
    done.add(Entry(Mark("roses/a.jpg", RELABEL, "roses"), "roses/a.jpg", sha256))
    start = tree(folder)
    with pytest.raises(MarksError, match="listed as moved to where it was"):
        marks_applying.undo(folder, done.file)
    assert tree(folder) == start


def test_only_lists_of_the_folder_itself_are_undone(tmp_path):
    folder, other = flowers(tmp_path / "photos"), flowers(tmp_path / "others")
    (file,) = apply(folder, *SOME).lists
    for wrong in (file, tmp_path / "marks.jsonl"):
        with pytest.raises(MarksError, match="is no list of what was done in others: those lie in .*others_marks"):
            marks_applying.undo(other, wrong)
    with pytest.raises(MarksError, match="cannot read .*applied-2"):
        marks_applying.undo(folder, file.with_name("applied-2.jsonl"))


def test_lists_are_no_class_and_removed_photos_are_not_trained_on(tmp_path):
    folder = flowers(tmp_path / "photos")
    before = scan(folder)
    apply(folder, *SOME[1:])
    after = scan(folder)
    assert after.class_names == before.class_names
    assert len(after.examples) == len(before.examples) - 2
