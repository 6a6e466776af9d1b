import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from scenes import scene

from retrain.data.dataset import Dataset, Example, scan
from retrain.data.marks import Action
from retrain.data.split import Split
from retrain.doctor import copies, duplicates, leakage, pictures, predictions, repeated
from retrain.doctor.findings import Kind, worst_first
from retrain.doctor.photos import Photos


def _cropped(picture: Image.Image, left: float = 0.1, top: float = 0.15) -> Image.Image:
    width, height = picture.size
    x, y = round(left * width), round(top * height)
    return picture.crop((x, y, x + round(0.8 * width), y + round(0.8 * height)))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "cropped": _cropped,
    "mirrored": ImageOps.mirror,
    "resized": lambda picture: picture.resize((70, 60)),
    "everything": lambda picture: ImageOps.mirror(_cropped(picture, 0.2, 0.0)).resize((80, 64)),
}


def _folder(folder: Path, per_class: int = 20) -> Path:
    for number in range(2 * per_class):
        path = folder / ("a" if number < per_class else "b") / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(path, quality=90)
    return folder


def _bottleneck(file: Path) -> np.ndarray:
    """Return what is much the same of a part and of the mirror image: the distribution of each colour."""
    pixels = np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3)
    return np.percentile(pixels, [10, 30, 50, 70, 90], axis=0).ravel().astype(np.float32)


def _photos(folder: Path) -> Photos:
    dataset = scan(folder)
    files = [folder / example.path for example in dataset.examples]
    vectors = np.stack([_bottleneck(file) for file in files])
    keys = [hashlib.sha256(file.read_bytes()).digest() for file in files]
    labels = np.array([example.class_id for example in dataset.examples])
    return Photos(dataset, lambda numbers: vectors[numbers], keys, labels, 0, folder=folder.parent)


def _groups(photos: Photos, found: copies.Copies) -> list[set[str]]:
    return [{photos.dataset.examples[number].path for number in group} for group in found.groups]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(tmp_path: Path, change: str) -> None:
    folder = _folder(tmp_path / "photos")
    expected = []
    for number in range(6):
        original = folder / "a" / f"{number:03}.jpg"
        CHANGES[change](Image.open(original)).save(folder / "a" / f"{number:03}x.jpg", quality=50)
        expected.append({f"a/{number:03}.jpg", f"a/{number:03}x.jpg"})
    photos = _photos(folder)
    assert _groups(photos, copies.find(photos)) == expected


def test_photos_of_their_own_give_no_findings(tmp_path: Path) -> None:
    photos = _photos(_folder(tmp_path / "photos"))
    found = copies.find(photos)
    assert not found.groups
    assert not len(found.pairs)
    assert duplicates.check(photos, found) == leakage.check(photos, found) == []


def test_a_frame_makes_no_copies(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "photos")
    for number in range(8):
        ImageOps.expand(scene(100 + number), 25, "black").save(folder / "a" / f"framed{number}.jpg")
    photos = _photos(folder)
    assert not copies.find(photos).groups


def test_exact_copies_need_neither_neighbours_nor_detail(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "photos")
    for name in ("a/white1.png", "a/white2.png", "a/white3.png"):
        Image.new("RGB", (30, 30), "white").save(folder / name)
    photos = _photos(folder)
    (finding,) = duplicates.check(photos, copies.find(photos))
    assert finding.kind is Kind.DUPLICATE
    assert finding.figures["copies"] == finding.figures["exact"] == 2
    assert finding.figures["groups"] == [["a/white1.png", "a/white2.png", "a/white3.png"]]
    assert "2 photos are copies of others, such as" in finding.sentence
    assert [(mark.path, mark.action) for mark in finding.marks] == [(path, Action.REMOVE) for path in finding.photos]


def test_a_copy_in_another_class_is_a_question_of_labels_and_proposes_no_removal(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "photos")
    (folder / "b" / "copy.jpg").write_bytes((folder / "a" / "003.jpg").read_bytes())
    photos = _photos(folder)
    (finding,) = duplicates.check(photos, copies.find(photos))
    assert finding.kind is Kind.LABEL
    assert list(finding.photos) == ["a/003.jpg", "b/copy.jpg"]
    assert not finding.marks


def test_a_chain_is_no_group(tmp_path: Path) -> None:
    """Links between neighbours would make one group of a long pan, whose ends have nothing in common."""
    folder = _folder(tmp_path / "photos")
    pan = scene(500, (900, 120))
    for number in range(12):
        pan.crop((number * 20, 0, number * 20 + 150, 120)).save(folder / "a" / f"pan{number:02}.png")
    photos = _photos(folder)
    found = copies.find(photos)
    assert len(found.pairs) >= 6
    assert max(map(len, found.groups)) < 12


def test_pictures_are_kept(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "photos", per_class=4)
    photos = _photos(folder)
    numbers = np.array([3, 1, 6])
    first = pictures.of(photos, numbers)
    for file in folder.rglob("*.jpg"):
        file.unlink()
    np.testing.assert_array_equal(pictures.of(photos, numbers), first)
    assert not pictures.of(photos, np.array([0])).any()


def _ready_made(folder: Path) -> tuple[Photos, Path]:
    """Write a split of which two of 32 test photos are copies of training photos."""
    for part, start in (("train", 0), ("test", 40)):
        _folder(folder / part, per_class=16)
        for file in sorted((folder / part).rglob("*.jpg")):
            if part == "test":
                scene(start + int(file.stem)).save(file)
    _cropped(Image.open(folder / "train" / "a" / "002.jpg")).save(folder / "test" / "a" / "000.jpg")
    (folder / "test" / "b" / "016.jpg").write_bytes((folder / "train" / "b" / "020.jpg").read_bytes())
    return _photos(folder), folder


def test_leaked_test_photos_are_named_with_the_accuracy_without_them(tmp_path: Path) -> None:
    photos, _ = _ready_made(tmp_path / "photos")
    examples = photos.dataset.examples
    predicted = np.full(len(examples), -1)
    tested = [number for number, example in enumerate(examples) if example.split is Split.TESTING]
    predicted[tested] = photos.labels[tested]
    wrong = next(number for number in tested if examples[number].path == "test/a/001.jpg")
    predicted[wrong] = 1
    (finding,) = leakage.check(photos, copies.find(photos), lambda: predicted)
    assert finding.kind is Kind.LEAKAGE
    assert list(finding.photos) == ["test/a/000.jpg", "test/b/016.jpg"]
    assert finding.figures == {
        "split": "testing",
        "leaked": 2,
        "photos": 32,
        "accuracy": 31 / 32,
        "accuracy_without": 29 / 30,
        "groups": [["test/a/000.jpg", "train/a/002.jpg"], ["test/b/016.jpg", "train/b/020.jpg"]],
    }
    assert "2 of 32 test photos are copies of training photos" in finding.sentence
    assert "96.9% with them, 96.7% without" in finding.sentence


def test_without_a_model_leakage_has_no_accuracy(tmp_path: Path) -> None:
    photos, _ = _ready_made(tmp_path / "photos")
    (finding,) = leakage.check(photos, copies.find(photos))
    assert finding.figures.keys() == {"split", "leaked", "photos", "groups"}
    assert "accuracy" not in finding.sentence


def test_of_many_leaks_those_into_the_test_photos_are_worse() -> None:
    splits = [Split.TRAINING, Split.TESTING, Split.VALIDATION, Split.VALIDATION]
    examples = tuple(Example(f"a/{number}.jpg", 0, split) for number, split in enumerate(splits))
    dataset, labels = Dataset(Path("x"), ("a",), examples), np.zeros(4, np.int64)
    photos = Photos(dataset, lambda numbers: np.zeros((len(numbers), 2), np.float32), [b"same"] * 4, labels, 0)
    found = copies.Copies(np.zeros(4, np.int64), np.zeros((0, 2), np.int64), [[0, 1, 2, 3]])
    worst, other = worst_first(leakage.check(photos, found))
    assert (worst.figures["split"], worst.severity) == ("testing", 1.0)
    assert (other.figures["split"], other.severity) == ("validation", 0.9)


def test_the_photo_that_is_measured_on_is_kept(tmp_path: Path) -> None:
    photos, _ = _ready_made(tmp_path / "photos")
    (finding,) = duplicates.check(photos, copies.find(photos))
    assert [mark.path for mark in finding.marks] == ["train/a/002.jpg", "train/b/020.jpg"]


def test_all_that_is_found_of_copies_says_what_leaks_do_to_a_head(tmp_path: Path) -> None:
    photos, _ = _ready_made(tmp_path / "photos")
    leaked, superfluous = repeated.check(photos)
    assert (leaked.kind, superfluous.kind) == (Kind.LEAKAGE, Kind.DUPLICATE)
    assert {"accuracy", "accuracy_without"} < set(leaked.figures)
    assert repeated.check(photos) == [leaked, superfluous]


def test_a_head_is_asked_about_test_photos_alone() -> None:
    labels = np.arange(40) % 2
    splits = np.array([Split.TRAINING, Split.VALIDATION, Split.TESTING, Split.TESTING])[np.arange(40) // 2 % 4]
    vectors = np.random.default_rng(0).normal(labels[:, None] * 3.0, 0.1, (40, 6)).astype(np.float32)
    examples = tuple(
        Example(f"{label}/{n}.jpg", int(label), split)
        for n, (label, split) in enumerate(zip(labels, splits, strict=True))
    )
    photos = Photos(Dataset(Path("x"), ("0", "1"), examples), lambda numbers: vectors[numbers], [None] * 40, labels, 0)
    predicted = predictions.of_test_photos(photos)
    np.testing.assert_array_equal(predicted, np.where(splits == Split.TESTING, labels, -1))


def test_a_photo_that_changed_since_it_was_listed_lends_its_picture_to_no_other(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "photos")
    photos, numbers = _photos(folder), np.arange(4)
    files = [folder / photos.dataset.examples[number].path for number in numbers]
    was = files[0].read_bytes()
    files[0].write_bytes(files[1].read_bytes())
    assert pictures.of(photos, numbers).any(axis=(1, 2)).tolist() == [False, True, True, True]
    files[0].write_bytes(was)
    seen = pictures.of(photos, numbers)
    assert seen[0].any()
    assert (seen[0] != seen[1]).any()
