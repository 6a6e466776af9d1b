"""What a run gathers of single photos, on real files and a network that sees colours."""

import io
import os
import sqlite3
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest
from builders import terminal
from conftest import write_graph
from PIL import Image

from retrain import showing
from retrain.backbones import catalogue, families
from retrain.backbones.sources import WeightsRequest
from retrain.bottlenecks.preparation import PreparationSettings, prepare
from retrain.candidates import Candidate
from retrain.config import RetrainConfig
from retrain.data.dataset import scan
from retrain.data.distortions import Distortions
from retrain.data.split import Split
from retrain.data.variants import Distorter
from retrain.evaluation import attention, kept
from retrain.evaluation.report import TestScores as Scores
from retrain.evaluation.selection import MISCLASSIFIED, RIGHT
from retrain.export import ClassifierWriter
from retrain.head import Head, Layer, linear

pytestmark = pytest.mark.slow
CLASSES = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
SIDE = 64
# Logits of blue, green and red, in the order of their names, from the mean of red, green and blue.
HEAD = linear(np.eye(3, dtype=np.float32)[::-1] * 20, np.zeros(3, np.float32))


def quadrant(path, colour, place, seed=0):
    """Write a grey photo with one coloured quarter, no two alike."""
    pixels = np.random.default_rng([seed, place]).integers(100, 110, (SIDE, SIDE, 1)).repeat(3, axis=2).astype(np.uint8)
    half = SIDE // 2
    top, left = place // 2 * half, place % 2 * half
    pixels[top : top + half, left : left + half] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    """Photos of three colours, each in one of four places, some of them for testing; and one in a wrong folder."""
    for name, colour in CLASSES.items():
        for number in range(24):
            quadrant(tmp_path / "photos" / name / f"{number}.png", colour, number % 4, seed=number)
    return tmp_path


@pytest.fixture(scope="module")
def peak_backbone(tmp_path_factory):
    """A network without maps: its bottleneck is the brightest of each colour over the photo, in the middle less so."""
    return write_graph(
        tmp_path_factory.mktemp("peak") / "peak.pb", lambda tf, image: tf.reduce_max(image, [1, 2], name="mean_colour")
    )


@contextmanager
def candidate(folder, backbone, head=HEAD, keep_aspect_ratio=None):
    """Open a candidate of the photos in a folder, with a head that nobody trained."""
    shown, _, _ = terminal()
    spec = catalogue.find(str(backbone))
    spec = replace(spec, target="mean_colour", input=replace(spec.input, keep_aspect_ratio=keep_aspect_ratio))
    source = families.locate(spec, WeightsRequest(folder))
    settings = PreparationSettings(folder / "bottlenecks", Distorter(Distortions(), 0))
    config = RetrainConfig(folder / "photos", testing_percentage=40)
    with ExitStack() as opened:
        dataset = scan(config.image_dir, config.split_rule)
        prepared = prepare(dataset, source, settings, None, terminal=shown, opened=opened)
        writer = ClassifierWriter(prepared.runner, dataset.class_names, "final_result", "final_training_ops")
        yield Candidate(
            config, prepared, writer, head, prepared.read, prepared.read_exactly, [], steps=1, step=0,
            summaries_dir=folder, curves={},
        )  # fmt: skip


def evidence(folder, backbone, head=HEAD, change=lambda scores: scores, **more):
    with candidate(folder, backbone, head, **more) as chosen:
        variants = chosen.prepared.variants
        rows = variants.members[Split.TESTING]
        paths = [variants.rows[row].path for row in rows.tolist()]
        scores = Scores(paths, head.probabilities(chosen.read_exactly(rows)), variants.labels[rows])
        return showing.evidence_of(chosen, rows, change(scores))


def mislabelled(folder):
    """Move a few test photos' likes into a wrong folder: photos that are red in the folder of the blue ones."""
    for number in range(24):
        quadrant(folder / "photos" / "blue" / f"red{number}.png", CLASSES["red"], number % 4, seed=100 + number)


def hottest(found, card):
    """Return the quarter of the attention picture that is most yellow."""
    pixels = np.asarray(Image.open(io.BytesIO(found.pictures[card.attention])), np.float32)
    yellow = pixels[..., 0] + pixels[..., 1] - pixels[..., 2]
    half = len(yellow) // 2
    parts = [yellow[top : top + half, left : left + half].mean() for top in (0, half) for left in (0, half)]
    return int(np.argmax(parts))


def number_of(card):
    return int("".join(filter(str.isdigit, card.path)))


def test_the_network_looked_where_the_colour_is_and_the_neighbours_are_of_that_colour(photos, mean_colour_backbone):
    mislabelled(photos)
    found = evidence(photos, mean_colour_backbone)
    assert found.how == attention.MAPS
    assert len(found.wrong) >= 3
    assert all((card.true, card.scores[0][0]) == ("blue", "red") for card in found.wrong)
    assert {card.true for card in found.right} == set(CLASSES)
    for card in [*found.wrong, *found.right]:
        assert card.attention
        assert hottest(found, card) == number_of(card) % 4
        assert len(card.neighbours) == 3
        assert all(near.path in found.pictures for near in card.neighbours)
    for card in found.wrong:
        assert all(near.path.startswith(("red/", "blue/red")) for near in card.neighbours)
    names = sorted(CLASSES)
    assert next(iter(found.cells)) == (names.index("blue"), names.index("red"))
    shown = {path for paths in found.cells.values() for path in paths}
    assert shown == {card.path for card in [*found.wrong, *found.right]}
    assert found.left_out == {}


def test_hidden_layers_and_networks_without_maps_are_asked_otherwise(photos, mean_colour_backbone, peak_backbone):
    first = Layer(np.eye(3, dtype=np.float32)[::-1] * 20, np.zeros(3, np.float32))
    hidden = Head((first, Layer(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))))
    by_gradient = evidence(photos, mean_colour_backbone, hidden)
    assert by_gradient.how == attention.GRADIENTS
    assert all(hottest(by_gradient, card) == number_of(card) % 4 for card in by_gradient.right)
    by_covering = evidence(photos, peak_backbone)
    assert by_covering.how == attention.OCCLUSION
    asked = [card for card in by_covering.right if card.attention]
    # No square alone covers a quarter, whose colour is bright in all of them: all say as much.
    assert len(asked) == len(by_covering.right) == 9


def test_covering_the_only_bright_spot_costs_most(tmp_path, peak_backbone):
    for name, colour in CLASSES.items():
        for number in range(12):
            path = tmp_path / "photos" / name / f"{number}.png"
            quadrant(path, (100, 100, 100), 0, seed=number)
            pixels = np.asarray(Image.open(path)).copy()
            top, left = number % 4 // 2 * 40 + 4, number % 2 * 40 + 4
            pixels[top : top + 8, left : left + 8] = colour
            Image.fromarray(pixels).save(path)
    found = evidence(tmp_path, peak_backbone)
    assert found.right
    assert all(hottest(found, card) == number_of(card) % 4 for card in found.right)


def test_a_second_run_decodes_nothing_and_gives_the_same(photos, mean_colour_backbone):
    first = evidence(photos, mean_colour_backbone)
    lose(photos)
    assert evidence(photos, mean_colour_backbone) == first
    (folder,) = (photos / "bottlenecks").iterdir()
    (folder / kept.NAME).unlink()
    lost = evidence(photos, mean_colour_backbone)
    assert lost.pictures == {}
    assert (lost.unreadable, lost.left_out) == (len(first.right), {})


def lose(folder):
    """Fill the photos with zeros; the store does not see it: it is told the times of change, which cannot be set."""
    for path in (folder / "photos").rglob("*.png"):
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (store,) = (folder / "bottlenecks").iterdir()
    with sqlite3.connect(store / "index.sqlite") as index:
        for (name,) in index.execute("SELECT name FROM files").fetchall():
            path = folder / "photos" / os.fsdecode(name.split(b"\0")[0])
            index.execute("UPDATE files SET changed = ? WHERE name = ?", (path.stat().st_ctime_ns, name))
    index.close()


def test_another_head_uses_the_maps_that_are_kept(photos, mean_colour_backbone):
    first = evidence(photos, mean_colour_backbone)
    other = linear(HEAD.last.weights, HEAD.last.biases + np.array([1e-4, 0, 0], np.float32))
    lose(photos)
    found = evidence(photos, mean_colour_backbone, other)
    assert [card.path for card in found.right] == [card.path for card in first.right]
    assert all(hottest(found, card) == number_of(card) % 4 for card in found.right)


def test_it_is_the_same_again_from_nothing(photos, mean_colour_backbone):
    first = evidence(photos, mean_colour_backbone)
    (folder,) = (photos / "bottlenecks").iterdir()
    (folder / kept.NAME).unlink()
    assert evidence(photos, mean_colour_backbone) == first
    (folder / kept.NAME).write_bytes(b"damaged" * 1000)
    assert evidence(photos, mean_colour_backbone) == first
    assert evidence(photos, mean_colour_backbone) == first


def test_a_store_that_holds_nothing_new_costs_the_pictures_nothing(photos, mean_colour_backbone):
    first = evidence(photos, mean_colour_backbone)
    (folder,) = (photos / "bottlenecks").iterdir()
    (folder / kept.NAME).unlink()
    (folder / kept.NAME).mkdir()  # no file can be written there, whoever runs this
    assert evidence(photos, mean_colour_backbone) == first


def test_pictures_are_bounded_and_what_was_left_out_is_counted(photos, mean_colour_backbone, monkeypatch):
    mislabelled(photos)
    whole = evidence(photos, mean_colour_backbone)
    most = sum(map(len, whole.pictures.values())) // 2
    monkeypatch.setattr(showing, "_MOST_BYTES", most)
    found = evidence(photos, mean_colour_backbone)
    assert most * 0.8 < sum(map(len, found.pictures.values())) <= most
    assert found.wrong[0] == whole.wrong[0]
    shown = len(found.wrong) + len(found.right)
    assert shown + sum(found.left_out.values()) == len(whole.wrong) + len(whole.right)
    assert all(card.path in found.pictures for card in [*found.wrong, *found.right])
    lost = {MISCLASSIFIED: len(whole.wrong) - len(found.wrong), RIGHT: len(whole.right) - len(found.right)}
    assert {what: count for what, count in lost.items() if count} == found.left_out
    assert lost[RIGHT]


def test_of_very_many_training_photos_some_of_each_class_are_compared(photos, mean_colour_backbone, monkeypatch):
    with candidate(photos, mean_colour_backbone) as chosen:
        members, labels = chosen.prepared.variants.members[Split.TRAINING], chosen.prepared.variants.labels
        monkeypatch.setattr(showing, "_COMPARED", 6)
        looked_at = showing._Gathering(chosen, np.zeros(0, np.int64), Scores([], np.zeros((0, 3)), labels[:0])).training
    assert len(looked_at) == 6 < len(members)
    assert set(looked_at) <= set(members)
    assert set(labels[looked_at]) == {0, 1, 2}


def test_hostile_names_are_names(photos, mean_colour_backbone):
    hostile = ["<script>alert(1)</script>&amp;", "%2e%2e ' \" ?#", os.fsdecode(b"bytes \xff\xfe")]
    for number, name in enumerate(hostile):
        quadrant(photos / "photos" / "blue" / f"{name.replace('/', '_')}.png", CLASSES["red"], 1, seed=200 + number)
    found = evidence(photos, mean_colour_backbone, change=lambda scores: scores)
    assert all(card.path in found.pictures for card in [*found.wrong, *found.right])


def test_without_test_photos_there_is_nothing(photos, mean_colour_backbone):
    def nothing(scores):
        return Scores([], np.zeros((0, 3), np.float32), np.zeros(0, np.int64))

    found = evidence(photos, mean_colour_backbone, change=nothing)
    assert (found.wrong, found.right, found.pictures, found.how) == ([], [], {}, "")


def test_letterboxed_photos_show_where_the_colour_is_too(photos, mean_colour_backbone):
    found = evidence(photos, mean_colour_backbone, keep_aspect_ratio="letterbox")
    assert all(hottest(found, card) == number_of(card) % 4 for card in found.right)
    assert MISCLASSIFIED not in found.left_out
