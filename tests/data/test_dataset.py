import hashlib
import re

import pytest
from conftest import photo
from hypothesis import given
from hypothesis import strategies as st

from retrain.data.dataset import groups_of, scan, without
from retrain.data.split import Split, SplitRule, hash_percentage
from retrain.errors import DatasetError, UsageError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def many(folder, classes=("a", "b"), count=60):
    return touch(folder, *[f"{name}/{i}.jpg" for name in classes for i in range(count)])


def splits(keys):
    return {key: SplitRule(validation=10, testing=10).assign(key) for key in keys}


@pytest.mark.parametrize(
    ("key", "percentage", "split"),
    [
        ("flower_photos/daisy/a.jpg", 51.1755, Split.TRAINING),
        ("./flower_photos/daisy/a.jpg", 27.6642, Split.TRAINING),
        ("x/leaf_nohash_1.jpg", 6.9026, Split.VALIDATION),
        ("x/leaf_nohash_2.jpg", 6.9026, Split.VALIDATION),
    ],
)
def test_the_hash_is_that_of_the_original(key, percentage, split):
    assert hash_percentage(key) == pytest.approx(percentage, abs=1e-4)
    assert splits([key])[key] is split


@given(st.text(min_size=1))
def test_any_name_hashes_into_0_to_100(name):
    assert 0 <= hash_percentage(name) <= 100


def test_composed_and_decomposed_names_share_a_split():
    assert hash_percentage("caf\u00e9/1.jpg") == hash_percentage("cafe\u0301/1.jpg")


def test_near_duplicates_are_a_group_in_whichever_folder_of_a_split(tmp_path):
    names = ["leaf_nohash_1.jpg", "leaf_nohash_2.jpg", "leaf.jpg"]
    plain = scan(touch(tmp_path / "plain", *[f"{each}/{name}" for each in ("a", "b") for name in names]))
    assert groups_of(plain) == ["a/leaf.jpg", "a/leaf", "a/leaf", "b/leaf.jpg", "b/leaf", "b/leaf"]
    split = [f"{folder}/a/leaf_nohash_{folder}.jpg" for folder in ("train", "test")]
    made = scan(touch(tmp_path / "made", *split, "train/b/1.jpg", "test/b/2.jpg"))
    assert sorted(groups_of(made)) == ["a/leaf", "a/leaf", "b/1.jpg", "b/2.jpg"]


def test_adding_images_never_moves_an_old_one():
    old = [f"roses/{i}.jpg" for i in range(200)]
    assert splits(old).items() <= splits([*old, "roses/new.jpg"]).items()


def test_shares_are_close_to_the_percentages():
    drawn = list(splits(f"roses/{i}.jpg" for i in range(5000)).values())
    for split, share in ((Split.VALIDATION, 0.1), (Split.TESTING, 0.1), (Split.TRAINING, 0.8)):
        # Four standard deviations of a binomial share.
        assert drawn.count(split) / 5000 == pytest.approx(share, abs=4 * (share * (1 - share) / 5000) ** 0.5)


def test_moving_the_folder_changes_nothing(tmp_path):
    before = scan(many(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    assert scan(tmp_path / "new").examples == before.examples


def test_the_spelling_of_the_folder_changes_nothing(tmp_path, monkeypatch):
    many(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    assert (
        scan(Path("photos")).examples == scan(Path("./photos/../photos")).examples == scan(tmp_path / "photos").examples
    )


def test_class_names_are_the_folder_names_in_sorted_order(tmp_path):
    names = ["Rose-A", "rose a", "Тюльпан", 'it\'s "quoted"', "two\nlines", "日本"]
    touch(tmp_path, *[f"{name}/1.jpg" for name in names])
    found = scan(tmp_path)
    assert list(found.class_names) == sorted(names)
    assert {e.path.split("/")[0]: found.class_names[e.class_id] for e in found.examples} == {n: n for n in names}


def test_nested_folders_belong_to_their_class(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/deep/er/2.jpg", "b/1.jpg")
    assert [e.path for e in scan(tmp_path).examples] == ["a/1.jpg", "a/deep/er/2.jpg", "b/1.jpg"]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/.DS_Store", "a/._1.jpg", "a/.thumbnails/1.jpg", "b/1.jpg", ".git/1.jpg")
    assert [e.path for e in scan(tmp_path).examples] == ["a/1.jpg", "b/1.jpg"]


def test_a_folder_without_images_is_no_class_and_one_with_a_hidden_suffix_is(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.JPEG", "docs/readme.txt", "LICENSE.txt")
    photo(tmp_path / "c" / "1.png", (1, 2, 3)).rename(tmp_path / "c" / "no_suffix")
    assert scan(tmp_path).class_names == ("a", "b", "c")


def test_a_link_that_leads_back_up_is_followed_once(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a", target_is_directory=True)
    assert [e.path for e in scan(tmp_path).examples] == ["a/1.jpg", "b/1.jpg"]


def test_folders_for_each_split_are_used_as_they_are(tmp_path):
    for part in ("train", "val", "test"):
        touch(tmp_path, *[f"{part}/{name}/{i}.jpg" for name in ("x", "y") for i in range(30)])
    found = scan(tmp_path)
    assert found.class_names == ("x", "y")
    expected = {"train": Split.TRAINING, "val": Split.VALIDATION, "test": Split.TESTING}
    assert all(e.split is expected[e.path.split("/")[0]] for e in found.examples)
    assert found.counts(Split.VALIDATION) == [30, 30]
    assert found.notes == ("Using your test/, train/ and val/ folders.",)


def test_without_a_validation_folder_validation_images_come_from_training(tmp_path):
    for part in ("train", "test"):
        touch(tmp_path, *[f"{part}/{name}/{i}.jpg" for name in ("x", "y") for i in range(100)])
    found = scan(tmp_path)
    assert sum(found.counts(Split.TESTING)) == 200
    assert 0 < sum(found.counts(Split.VALIDATION)) < 60


def test_classes_called_train_and_test_are_classes(tmp_path):
    assert scan(many(tmp_path, ("train", "test"), 3)).class_names == ("test", "train")


def test_a_class_only_in_the_test_part_is_named(tmp_path):
    touch(tmp_path, "train/x/1.jpg", "train/y/1.jpg", "test/x/1.jpg", "test/stranger/1.jpg")
    with pytest.raises(DatasetError, match="1 class folder missing in .*train: 'stranger'"):
        scan(tmp_path)


def test_the_split_folders_of_santa_have_their_counts(data):
    found = scan(data / "datasets" / "santa")
    assert [sum(found.counts(split)) for split in Split] == [541, 200, 180]


def test_every_class_has_a_training_image_however_few_there_are(tmp_path):
    for count in (1, 2, 3):
        found = scan(
            many(tmp_path / str(count), ("a", "b", "c", "d", "e"), count),
            SplitRule(validation=49, testing=49),
        )
        assert min(found.counts(Split.TRAINING)) == 1


def test_the_image_moved_to_training_is_the_one_nearest_to_it(tmp_path):
    rule = SplitRule(validation=49, testing=50)
    found = scan(many(tmp_path, count=8), rule)
    moved = {e.path for e in found.examples if e.split is not rule.assign(e.path)}
    assert moved
    for path in moved:
        siblings = [e.path for e in found.examples if e.path[0] == path[0]]
        assert hash_percentage(path) == max(hash_percentage(sibling) for sibling in siblings)


def test_an_empty_split_is_said_with_the_class(tmp_path):
    notes = " ".join(scan(touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg"), SplitRule(testing=0)).notes)
    assert "No class has a testing image" in notes
    assert "Fewer than 20 images" in notes


def test_losing_images_keeps_the_others_splits(tmp_path):
    found = scan(many(tmp_path))
    gone = [e.path for e in found.examples[:5]]
    assert without(found, gone).examples == found.examples[5:]
    assert without(found, []) is found


def test_losing_a_whole_class_names_it(tmp_path):
    found = scan(many(tmp_path))
    with pytest.raises(DatasetError, match=re.escape("class 'a'") + ".*no readable image"):
        without(found, [e.path for e in found.examples if e.class_id == 0])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "no class folder"),
        (("1.jpg",), "no class folder"),
        (("only/1.jpg",), "only one class folder with images, 'only'"),
    ],
)
def test_too_few_classes_are_one_clear_error(tmp_path, names, words):
    with pytest.raises(DatasetError, match=words):
        scan(touch(tmp_path, *names))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no such image folder: .*nowhere"):
        scan(tmp_path / "nowhere")


@pytest.mark.parametrize(("validation", "testing"), [(50, 50), (-1, 10), (0, 101), (100, 0)])
def test_percentages_that_leave_no_training_data_are_refused(tmp_path, validation, testing):
    with pytest.raises(UsageError, match="percentage"):
        scan(many(tmp_path), SplitRule(validation, testing))


def test_the_split_key_is_hashed_with_sha1():
    digest = int(hashlib.sha1(b"a/b.jpg").hexdigest(), 16)
    assert hash_percentage("a/b.jpg") == digest % 2**27 * (100.0 / (2**27 - 1))
