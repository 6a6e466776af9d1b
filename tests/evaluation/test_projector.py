from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrain.evaluation import projector, projector_files
from retrain.evaluation.projector_files import CONFIG, FOLDER, PhotoPoints


@given(st.lists(st.integers(1, 300), min_size=1, max_size=12), st.integers(12, 400))
def test_a_sample_has_its_share_of_every_stratum(counts, most):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    chosen = projector.sample(labels, most=most)
    assert len(chosen) <= most
    assert (np.diff(chosen) > 0).all()
    taken, total = np.bincount(labels[chosen], minlength=len(counts)), sum(counts)
    if total <= most:
        assert len(chosen) == total
    else:
        # A stratum is shortened only for those that would have had none.
        assert ((taken >= 1) & (taken >= np.array(counts) * most // total - len(counts))).all()


def test_a_hundred_thousand_photos_are_shown_by_ten_thousand():
    assert 9_990 < len(projector.sample(np.arange(100_000) % 7)) <= projector.MOST_POINTS == 10_000


def test_the_reduction_is_the_principal_components():
    dice = np.random.default_rng(1)
    vectors = (dice.standard_normal((150, 300)) * np.exp(-np.arange(300) / 20) + 5).astype(np.float32)
    found = projector.reduce(vectors, dimensions=20)
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    wanted = (left * sizes)[:, :20]
    wanted *= np.sign(wanted[np.abs(wanted).argmax(axis=0), np.arange(20)])
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
    assert np.array_equal(found, projector.reduce(vectors, dimensions=20))


@pytest.mark.parametrize(("photos", "features", "expected"), [(500, 400, 100), (40, 3, 3), (5, 400, 5)])
def test_the_reduction_has_no_more_dimensions_than_there_are(photos, features, expected):
    vectors = np.random.default_rng(0).random((photos, features), np.float32)
    assert projector.reduce(vectors).shape == (photos, expected)
    alike = np.ones((photos, features), np.float32)
    assert np.array_equal(projector.reduce(alike), np.zeros((photos, expected)))


@given(st.integers(1, projector.MOST_POINTS))
def test_all_pictures_fit_into_a_sheet_that_browsers_draw(count):
    side = projector.picture_side(count)
    columns = int(np.ceil(np.sqrt(count)))
    assert columns**2 >= count
    assert 32 <= side <= 64
    assert side * columns <= projector.SHEET_SIDE <= 8192


def test_pictures_lie_in_the_sheet_row_by_row(tmp_path):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), None, (250, 250, 0)]
    pictures = [Image.new("RGB", (64, 64), colour) if colour else None for colour in colours]
    (tmp_path / "sheet.jpg").write_bytes(projector.sheet(pictures))
    with Image.open(tmp_path / "sheet.jpg") as opened:
        pixels = np.asarray(opened, np.int64)
    assert pixels.shape == (192, 192, 3)
    for number, colour in enumerate([*colours, None]):
        middle = pixels[number // 3 * 64 + 32, number % 3 * 64 + 32]
        assert np.abs(middle - (colour or (160, 160, 160))).max() < 12


class Photos:
    """Photos, their vectors and their pictures, which count how often they were asked for."""

    def __init__(self, folder, count=12):
        self.folder, self.asked = folder, []
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.jpg").write_bytes(b"photo" * (number + 1))
        paths = [f"{number}.jpg" for number in range(count)]
        classes = ["a", "b\tc"] * (count // 2)
        self.points = PhotoPoints(folder, paths, classes, ["training"] * (count - 1) + ["testing"], {paths[-1]: "a"})

    def vectors(self):
        self.asked.append("vectors")
        return np.random.default_rng(0).random((len(self.points.paths), 7), np.float32)

    def decode(self, path):
        self.asked.append(path)
        return None if path == "3.jpg" else np.full((64, 64, 3), 20 * int(path.split(".")[0]), np.uint8)

    def write(self, summaries, **changes):
        """Write, and return what was asked for and what changed."""
        before, self.asked = contents(summaries), []
        refused = projector_files.write(
            summaries, self.points, origin="store", vectors=self.vectors, decode=self.decode, **changes
        )
        after = contents(summaries)
        return refused, self.asked, {name for name in after if after[name] != before.get(name)}


def contents(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}


@pytest.fixture
def photos(tmp_path):
    return Photos(tmp_path / "photos")


def test_the_configuration_names_files_that_fit_together(photos, tmp_path):
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    summaries = tmp_path / "s"
    assert photos.write(summaries)[0] is None
    (embedding,) = text_format.Parse((summaries / CONFIG).read_text(), ProjectorConfig()).embeddings
    assert list(embedding.tensor_shape) == [12, 7]
    data = (summaries / embedding.tensor_path).read_bytes()
    assert len(data) == 12 * 7 * 4
    with pytest.raises(UnicodeDecodeError):  # which is how TensorBoard sees that it is no text
        data.decode()
    rows = (summaries / embedding.metadata_path).read_text().splitlines()
    assert rows[0].split("\t") == ["class", "split", "result", "predicted", "photo"]
    assert rows[1].split("\t") == ["a", "training", "not tested", "", "0.jpg"]
    assert rows[-1].split("\t") == ["b\\tc", "testing", "wrong", "a", "11.jpg"]
    assert len(rows) == 13
    with Image.open(summaries / embedding.sprite.image_path) as sprite:
        assert sprite.size == (256, 256)
    assert list(embedding.sprite.single_image_dim) == [64, 64]


def test_points_that_are_all_alike_are_no_text_either(photos, tmp_path):
    photos.vectors = lambda: np.ones((12, 7), np.float32)
    photos.write(tmp_path / "s")
    with pytest.raises(UnicodeDecodeError):
        (tmp_path / "s" / FOLDER / "bottlenecks.bytes").read_bytes().decode()


def test_only_what_changed_is_written(photos, tmp_path):
    _, asked, written = photos.write(tmp_path / "s")
    everything = {"bottlenecks.bytes", "metadata.tsv", "sprite.jpg", "pictures.sqlite", "key"}
    assert written == everything | {CONFIG}
    assert sorted(asked) == sorted(["vectors", *photos.points.paths])
    assert photos.write(tmp_path / "s")[1:] == ([], set())
    photos.points = replace(photos.points, predicted={"11.jpg": "b\tc"})  # another head
    assert photos.write(tmp_path / "s")[1:] == ([], {"metadata.tsv"})
    (photos.folder / "5.jpg").write_bytes(b"another")
    _, asked, written = photos.write(tmp_path / "s")
    assert asked == ["vectors", "5.jpg"]
    assert "sprite.jpg" in written


def test_pictures_that_found_no_time_come_later_and_the_result_is_the_same(photos, tmp_path):
    _, asked, _ = photos.write(tmp_path / "slow", seconds=0)
    assert asked == ["vectors"]
    assert (tmp_path / "slow" / FOLDER / "sprite.jpg").is_file()
    _, asked, _ = photos.write(tmp_path / "slow")
    assert set(asked) == {"vectors", *photos.points.paths}
    photos.write(tmp_path / "fast")
    slow, fast = contents(tmp_path / "slow"), contents(tmp_path / "fast")
    del slow["pictures.sqlite"], fast["pictures.sqlite"]  # which holds what it was made of in another order
    assert {name: data for name, (data, *_) in slow.items()} == {name: data for name, (data, *_) in fast.items()}


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0"])
def test_a_damaged_file_of_pictures_is_made_again(photos, tmp_path, damage):
    photos.write(tmp_path / "s")
    whole = contents(tmp_path / "s")["sprite.jpg"][0]
    (tmp_path / "s" / FOLDER / "pictures.sqlite").write_bytes(damage)
    (tmp_path / "s" / FOLDER / "key").unlink()
    photos.write(tmp_path / "s")
    assert contents(tmp_path / "s")["sprite.jpg"][0] == whole


def test_somebody_elses_projector_stays(photos, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / CONFIG).write_text("embeddings { }")
    refused, asked, written = photos.write(tmp_path / "s")
    assert refused.startswith(str(tmp_path / "s" / CONFIG))
    assert (asked, written) == ([], set())
