"""Groups of photos stay in one split, whatever makes them: names, pictures or cameras."""

import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from builders import terminal
from conftest import colour_folder, photo
from PIL import ExifTags, Image, ImageOps
from scenes import scene

from retrain import checking, grouping
from retrain.config import RetrainConfig, check
from retrain.data.dataset import Dataset, grouped, groups_of, scan
from retrain.data.grouping import by_pattern
from retrain.data.split import DEFAULT_SPLIT, Split
from retrain.doctor import near_index
from retrain.errors import CheckError, UsageError
from retrain.features import ListedPhotos
from retrain.metadata import Metadata, TrainingSplit
from retrain.pipeline import retrain
from retrain.session import Session


def _splits(dataset: Dataset) -> dict[str, Split]:
    return {example.path: example.split for example in dataset.examples}


def _config(folder: Path, backbone: Path, group_by: str, **settings) -> RetrainConfig:
    return RetrainConfig(
        folder,
        architecture=str(backbone),
        bottleneck_tensor="mean_colour",
        bottleneck_dir=folder.parent / "bottlenecks",
        group_by=group_by,
        **settings,
    )


def _grouped(config: RetrainConfig) -> tuple[Dataset, str]:
    shown, printed, _ = terminal()
    with ExitStack() as opened:
        photos = ListedPhotos(scan(config.image_dir, config.split_rule), None, 0.0)
        found = grouping.grouped(config, photos, Session(shown, opened)).dataset
    return found, printed.getvalue()


def test_copies_among_too_many_photos_are_refused_before_the_work(tmp_path, mean_colour_backbone, monkeypatch) -> None:
    folder = colour_folder(tmp_path / "photos")
    monkeypatch.setattr(near_index, "MANY", 50)
    monkeypatch.setitem(sys.modules, "usearch", None)
    with pytest.raises(CheckError, match="^60 photos are too many"):
        _grouped(_config(folder, mean_colour_backbone, "duplicates"))
    assert not (tmp_path / "bottlenecks").exists()


def test_a_pattern_groups_by_its_groups_or_by_all_that_it_matches() -> None:
    paths = ["a/cam1-x.jpg", "b/cam1-y.jpg", "b/cam2-x.jpg", "b/other.jpg"]
    whole = by_pattern(paths, r"cam\d")
    assert whole == {"a/cam1-x.jpg": "cam1", "b/cam1-y.jpg": "cam1", "b/cam2-x.jpg": "cam2"}
    assert by_pattern(paths, r"cam(\d)-(\w)")["b/cam2-x.jpg"] == "2\0x"
    assert by_pattern(paths, r"cam(\d*)|(z)").keys() == whole.keys()
    assert by_pattern(paths, r"/(?:cam)?(\d?)").keys() == whole.keys()  # and no group of all that have no number
    assert by_pattern(paths, "z*") == by_pattern(paths, "(z*)(z*)") == {}  # which match an empty text everywhere


def test_each_group_is_in_one_split_and_other_photos_stay_where_they_are(tmp_path: Path) -> None:
    for number in range(60):
        photo(tmp_path / "ab"[number % 2] / f"burst{number // 4:02}-{number % 4}.png", (number, 0, 0))
        photo(tmp_path / "ab"[number % 2] / f"single{number}.png", (0, number, 0))
    before = scan(tmp_path)
    groups = by_pattern(_splits(before), r"burst\d+")
    after = grouped(before, groups, DEFAULT_SPLIT)
    splits = _splits(after)
    of_group = {name: {splits[path] for path, other in groups.items() if other == name} for name in groups.values()}
    assert all(len(each) == 1 for each in of_group.values())
    assert len(set.union(*of_group.values())) > 1
    assert all(splits[path] == split for path, split in _splits(before).items() if "single" in path)
    names = dict(zip(splits, groups_of(after), strict=True))
    assert names["a/burst03-0.png"] == names["b/burst03-1.png"] != names["a/burst04-0.png"]


def test_a_group_that_is_moved_to_training_moves_whole(tmp_path: Path) -> None:
    for number in range(6):
        photo(tmp_path / "a" / f"{number}.png", (number, 0, 0))
        photo(tmp_path / "b" / f"{number}.png", (0, number, 0))
    before = scan(tmp_path)
    groups = {path: path[0] for path in _splits(before)}
    rule = replace(DEFAULT_SPLIT, testing=89)
    assert {rule.assign(name) for name in "ab"} == {Split.TESTING}
    after = grouped(before, groups, rule)
    assert set(_splits(after).values()) == {Split.TRAINING}
    assert "Too few images to hold one out, so one is moved to training with its group: class 'a', 'b'." in after.notes


@pytest.mark.parametrize("value", ["", "(", "*"])
def test_what_is_no_pattern_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="--group_by is .*give duplicates, exif, or a regular expression"):
        check(RetrainConfig(Path("photos"), group_by=value))


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path, mean_colour_backbone: Path) -> None:
    colour_folder(tmp_path / "photos", per_class=3)
    with pytest.raises(UsageError, match=r"--group_by cam\\d matches no path in .*, such as cyan/0.png"):
        _grouped(_config(tmp_path / "photos", mean_colour_backbone, r"cam\d"))


def test_a_pattern_that_leaves_nothing_to_test_on_is_refused(tmp_path: Path, mean_colour_backbone: Path) -> None:
    colour_folder(tmp_path / "photos", per_class=3)
    with pytest.raises(UsageError, match="--group_by png makes one group of all photos in .*, which leaves none"):
        _grouped(_config(tmp_path / "photos", mean_colour_backbone, "png"))


@pytest.mark.parametrize(
    ("settings", "choices", "said"),
    [
        ({}, {"learning_rate": [0.01, 0.1]}, "a flag with several values chooses by validation images, and there are"),
        ({"early_stopping_patience": 3}, {}, "--early_stopping_patience chooses by validation images, and there are"),
        ({"folds": 5}, {}, "--folds is 5, and there are 3 photos to divide; those of a group"),
    ],
)
def test_groups_that_leave_too_little_for_what_is_asked_are_refused_before_the_work(
    settings, choices, said, tmp_path: Path, mean_colour_backbone: Path
) -> None:
    for number in range(48):
        photo(tmp_path / "photos" / "ab"[number % 2] / f"p{number % 3}-{number}.png", (number, 0, 0))
    results = {"output_graph": tmp_path / "g.pb", "output_labels": tmp_path / "l.txt", "summaries_dir": tmp_path / "s"}
    config = _config(tmp_path / "photos", mean_colour_backbone, r"p\d", **results)
    before, after = scan(tmp_path / "photos"), _grouped(config)[0]
    assert sum(before.counts(Split.VALIDATION)) > sum(after.counts(Split.VALIDATION)) == 0
    with pytest.raises(UsageError, match=said):
        retrain(replace(config, **settings), choices=choices)
    assert not list((tmp_path / "bottlenecks").glob("*/vectors.f32"))


def test_a_look_refuses_what_a_training_would_before_it_computes_anything(
    tmp_path: Path, mean_colour_backbone: Path
) -> None:
    colour_folder(tmp_path / "photos", per_class=3)
    for part in ("train", "test"):
        colour_folder(tmp_path / "split" / part, per_class=3)
    for folder, group_by in (("photos", "z"), ("photos", "png"), ("split", "exif"), ("split", r"\d")):
        config = _config(tmp_path / folder, mean_colour_backbone, group_by)
        with pytest.raises(UsageError, match="^--group_by "):
            checking.check(config, checking.Written(tmp_path / "out" / "c.html"), "--page", terminal()[0])
    assert not (tmp_path / "bottlenecks").exists()


@pytest.mark.parametrize("group_by", ["duplicates", r"\d"])
def test_a_folder_that_is_split_already_is_refused(tmp_path: Path, mean_colour_backbone: Path, group_by: str) -> None:
    for part in ("train", "test"):
        colour_folder(tmp_path / "photos" / part, per_class=3)
    with pytest.raises(UsageError, match="is split by its folders"):
        _grouped(_config(tmp_path / "photos", mean_colour_backbone, group_by))


@pytest.mark.slow
def test_copies_stay_together(tmp_path: Path, mean_colour_backbone: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(40):
        path = folder / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = scene(number)
        picture.save(path)
        if number < 20:
            ImageOps.mirror(picture).save(path.with_stem(f"{number:02}-mirrored"))
            path.with_stem(f"{number:02}-again").write_bytes(path.read_bytes())
    before = _splits(scan(folder))
    config = _config(folder, mean_colour_backbone, "duplicates")
    found, printed = _grouped(config)
    after = _splits(found)
    names = [f"{'ab'[number % 2]}/{number:02}" for number in range(20)]
    of_photo = [(f"{name}.png", f"{name}-mirrored.png", f"{name}-again.png") for name in names]
    assert any(len({before[path] for path in paths}) > 1 for paths in of_photo)
    assert all(len({after[path] for path in paths}) == 1 for paths in of_photo)
    assert "60 photos in 20 groups stay together" in printed
    assert _splits(_grouped(config)[0]) == after


@pytest.mark.slow
def test_photos_of_one_camera_and_day_stay_together(tmp_path: Path, mean_colour_backbone: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(48):
        path = photo(folder / "ab"[number % 2] / f"{number}.jpg", (5 * number, 90, 30), seed=number)
        if number < 40:
            exif = Image.Exif()
            exif[ExifTags.Base.Model] = f"Camera {number % 2}"
            exif[ExifTags.Base.DateTime] = f"2026:05:{1 + number // 4:02} 1{number % 4}:00:00"
            Image.open(path).save(path, exif=exif)
    found, printed = _grouped(_config(folder, mean_colour_backbone, "exif"))
    names = dict(zip(_splits(found), groups_of(found), strict=True))
    assert names["a/0.jpg"] == names["a/2.jpg"] != names["b/1.jpg"]  # two cameras
    assert names["a/2.jpg"] != names["a/4.jpg"]  # two days
    assert names["a/44.jpg"] != names["a/46.jpg"]  # which say nothing
    splits = _splits(found)
    assert all(splits[f"a/{number}.jpg"] == splits[f"a/{number + 2}.jpg"] for number in range(0, 40, 4))
    assert "40 photos in 20 groups stay together" in printed


def test_a_model_says_by_what_its_photos_were_grouped() -> None:
    split = TrainingSplit(10, 10, group_by="exif")
    assert str(split) == "validation 10 % and testing 10 %, grouped by exif"
    metadata = Metadata(("a", "b"), split=split)
    assert TrainingSplit.from_row(json.loads(metadata.to_json())["split"]) == split
    assert "group_by" not in replace(metadata, split=TrainingSplit(10, 10)).to_json()
