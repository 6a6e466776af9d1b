import os
import re

import pytest
from conftest import photo

from retrain.data.dataset import scan, without
from retrain.data.layout import split_of
from retrain.data.split import Split, SplitRule
from retrain.errors import DatasetError

SPELLINGS = [
    ("train", "valid", "test"),
    ("Train", "Val", "Test"),
    ("training", "validation", "testing"),
    ("TRAINING", "Validation", "TESTING"),
    ("trainset", "devset", "testset"),
    ("train_set", "dev", "test-set"),
    ("training_data", "eval", "test_data"),
    ("Training Images", "Validation Images", "Test Images"),
    ("seg_train", "seg_val", "seg_test"),
]
RAW = b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"


def touch(folder, *names, data=b""):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def split_folder(folder, *parts, classes=("x", "y"), count=2):
    return touch(folder, *[f"{part}/{name}/{i}.jpg" for part in parts for name in classes for i in range(count)])


def parts_of(dataset):
    return {e.path.split("/")[0]: e.split for e in dataset.examples}


@pytest.mark.parametrize("names", SPELLINGS, ids="/".join)
def test_every_usual_spelling_is_a_split(tmp_path, names):
    found = scan(split_folder(tmp_path, *names))
    assert found.class_names == ("x", "y")
    assert parts_of(found) == dict(zip(names, Split, strict=True))


@pytest.mark.parametrize("name", ["trains", "trainer", "steam train", "tester", "testament", "value", "device", "rose"])
def test_other_words_are_no_split(name):
    assert split_of(name) is None


@pytest.mark.parametrize("stray", ["__MACOSX", ".cache", "empty", "notes", "raw", "test_unlabelled"])
def test_a_stray_folder_beside_a_split_changes_nothing_and_is_said(tmp_path, stray):
    split_folder(tmp_path, "train", "valid", "test")
    (tmp_path / stray / "train" / "x").mkdir(parents=True)
    touch(tmp_path / stray, "train/x/._1.jpg")
    if stray == "notes":
        touch(tmp_path, "notes/readme.txt")
    if stray == "raw":
        touch(tmp_path, "raw/1.CR3", data=RAW)
    if stray == "test_unlabelled":
        touch(tmp_path, "test_unlabelled/1.jpg")
    found = scan(tmp_path)
    assert found.class_names == ("x", "y")
    assert set(parts_of(found)) == {"train", "valid", "test"}
    assert any(repr(stray) in note for note in found.notes) is not stray.startswith(".")


def test_class_folders_that_are_no_part_of_the_split_are_said(tmp_path):
    split_folder(tmp_path, "train", "test", "extra")
    found = scan(tmp_path)
    assert set(parts_of(found)) == {"train", "test"}
    assert "Not used, being no part of that split: the folder 'extra'." in found.notes


def test_test_photos_without_class_folders_are_no_class(tmp_path):
    split_folder(tmp_path, "train", count=100)
    touch(tmp_path, "test/1.jpg")
    found = scan(tmp_path)
    assert found.class_names == ("x", "y")
    assert all(sum(found.counts(split)) for split in Split)
    assert "Not used, being no part of that split: the folder 'test'." in found.notes


def test_training_photos_alone_are_split_by_the_rule(tmp_path):
    split_folder(tmp_path, "train", count=100)
    (tmp_path / "__MACOSX").mkdir()
    rule = SplitRule(30, 20)
    found = scan(tmp_path, rule)
    assert found.class_names == ("x", "y")
    assert all(e.split is rule.assign(e.path.removeprefix("train/")) for e in found.examples)


def test_a_class_called_train_among_others_is_a_class(tmp_path):
    touch(tmp_path, "train/steam/1.jpg", "train/2.jpg", "bus/1.jpg", "plane/old/1.jpg")
    assert scan(tmp_path).class_names == ("bus", "plane", "train")


@pytest.mark.parametrize("folders", [("test", "valid"), ("test", "."), ("train", ".")])
def test_half_a_split_is_refused_with_what_to_do(tmp_path, folders):
    with pytest.raises(DatasetError, match=r"Put the class folders of the training photos into .*train"):
        scan(split_folder(tmp_path, *folders))


def test_class_folders_without_an_image_are_said(tmp_path):
    split_folder(tmp_path, ".")
    touch(tmp_path, "white/IMG_1.CR3", "white/IMG_2.CR3", data=RAW)
    touch(tmp_path, "raw/1.CR2", data=b"\0" * 20)
    (tmp_path / "yellow").mkdir()
    (note,) = [note for note in scan(tmp_path).notes if "white" in note]
    assert note == (
        "No image that can be read, so not a class: 'raw' (1 file such as '1.CR2'), "
        "'white' (2 files such as 'IMG_1.CR3'), 'yellow' (empty)."
    )
    (tmp_path / "y" / "0.jpg").rename(tmp_path / "y" / "0.txt")
    (tmp_path / "y" / "1.jpg").rename(tmp_path / "y" / "1.txt")
    with pytest.raises(DatasetError, match=r"only one class folder with images, 'x'.*'white' \(2 files"):
        scan(tmp_path)


def test_class_folders_without_an_image_in_a_split_are_said(tmp_path):
    split_folder(tmp_path, "train", "test")
    touch(tmp_path, "train/white/1.cr3", "test/white/2.cr3", data=RAW)
    notes = " ".join(scan(tmp_path).notes)
    assert "'train/white' (1 file such as '1.cr3')" in notes
    assert "'test/white' (1 file such as '2.cr3')" in notes


def test_images_in_no_class_folder_are_said(tmp_path):
    touch(split_folder(tmp_path, "."), "loose.jpg", "readme.txt")
    note = "1 image in no class folder, so not used: 'loose.jpg'. Move each into the folder of its class."
    assert note in scan(tmp_path).notes


def test_images_beside_the_folders_of_a_split_or_of_any_name_are_said(tmp_path):
    split_folder(tmp_path, "train", "test")
    touch(tmp_path, *(f"{number}.jpg" for number in range(28)), "train/loose.jpg")
    photo(tmp_path / "x.png", (1, 2, 3)).rename(tmp_path / "without_ending")
    (note,) = [note for note in scan(tmp_path).notes if "no class folder" in note]
    assert note.startswith("30 images in no class folder, so not used: '0.jpg', '1.jpg'")
    assert "and 25 more" in note


def test_what_is_left_out_is_said_after_photos_turned_out_unreadable(tmp_path):
    touch(split_folder(tmp_path, "."), "white/1.cr3", data=RAW)
    found = scan(tmp_path)
    assert found.layout_notes[0] in without(found, ["x/0.jpg"]).notes


@pytest.mark.parametrize("parts", [(".",), ("train", "test")])
def test_links_into_another_class_are_not_followed_and_said(tmp_path, parts):
    split_folder(tmp_path, *parts)
    first, last = tmp_path / parts[0], tmp_path / parts[-1]
    (first / "x" / "all_of_y").symlink_to(first / "y")
    (first / "x" / "one_of_y.jpg").symlink_to(last / "y" / "0.jpg")
    (first / "x" / "everything").symlink_to(tmp_path)
    (first / "z").symlink_to(first / "y")
    found = scan(tmp_path)
    assert found.class_names == ("x", "y")
    assert len(found.examples) == 4 * len(parts)
    prefix = "" if parts == (".",) else "train/"
    refused = [f"{prefix}{name}" for name in ("x/all_of_y", "x/everything", "x/one_of_y.jpg", "z")]
    said = f"Links into another class are not followed: {', '.join(map(repr, refused))}."
    assert said in found.notes


def test_links_elsewhere_are_followed(tmp_path):
    split_folder(tmp_path / "photos", ".")
    touch(tmp_path, "pool/1.jpg", "other/2.jpg", "photos/.store/3.jpg")
    (tmp_path / "photos" / "x" / "pool").symlink_to(tmp_path / "pool")
    (tmp_path / "photos" / "x" / "stored.jpg").symlink_to(tmp_path / "photos" / ".store" / "3.jpg")
    (tmp_path / "photos" / "z").symlink_to(tmp_path / "other")
    paths = {e.path for e in scan(tmp_path / "photos").examples}
    assert {"x/pool/1.jpg", "x/stored.jpg", "z/2.jpg"} <= paths


def test_pipes_and_devices_are_never_opened(tmp_path):
    for name in ("x", "y"):
        photo(tmp_path / name / "1.png", (1, 2, 3)).rename(tmp_path / name / "photo")
        os.mkfifo(tmp_path / name / "a_pipe")
        (tmp_path / name / "a_device").symlink_to("/dev/zero")
    (tmp_path / "only").mkdir()
    os.mkfifo(tmp_path / "only" / "a_pipe")
    found = scan(tmp_path)
    assert found.class_names == ("x", "y")
    assert any(re.search(r"'only' \(1 file such as 'a_pipe'\)", note) for note in found.notes)
