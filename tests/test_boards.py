"""What a run shows on TensorBoard, as a browser shows it."""

import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from io import BytesIO
from urllib.parse import quote

import numpy as np
import pytest
from conftest import COLOURS, ROOT, colour_folder, photo
from PIL import Image

from retrain.data.dataset import scan
from retrain.data.split import Split
from retrain.pipeline import RetrainConfig, retrain

PATIENCE = 60_000  # milliseconds, on a machine that does much else
WRONG = "cyan, taken for magenta"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory, mean_colour_backbone):
    """The settings of a run on photos of colours, one of which lies in the wrong folder."""
    folder = tmp_path_factory.mktemp("boards")
    colour_folder(folder / "photos")
    return RetrainConfig(
        image_dir=folder / "photos", architecture=str(mean_colour_backbone), bottleneck_tensor="mean_colour",
        how_many_training_steps=60, output_graph=folder / "g.pb", output_labels=folder / "l.txt", flip_left_right=True,
        summaries_dir=folder / "s", bottleneck_dir=folder / "b", run_name="first", random_brightness=5,
        intermediate_output_graphs_dir=folder / "i", max_file_size=2**30, print_misclassified_test_images=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(config):
    """The report of a run that took one test photo for another colour."""
    rows = scan(config.image_dir, config.split_rule).examples
    path = next(row.path for row in rows if row.split is Split.TESTING and row.path.startswith("cyan/"))
    photo(config.image_dir / path, COLOURS["magenta"], seed=77)
    return retrain(config)


@pytest.fixture(scope="module")
def address(config, report):
    """The address of `retrain tensorboard` on what the run wrote."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, "-m", "retrain", "tensorboard", "--logdir", config.summaries_dir, "--port=0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as running:
        line = ""
        while not (found := re.search(r"http://localhost:\d+/", line)):
            line = running.stderr.readline()
            assert line, "TensorBoard ended"
        threading.Thread(target=running.stderr.read, daemon=True).start()
        yield found[0]
        running.terminate()


def get(address, route):
    """Return what a route gives as soon as TensorBoard has read the files."""
    for _ in range(300):
        with urllib.request.urlopen(f"{address}data/plugin/{route}") as answer:
            if (content := answer.read()) not in (b"{}", b"[]"):
                return content
        threading.Event().wait(0.1)
    raise AssertionError(f"{route} stays empty")


@pytest.fixture
def page(browser, address):
    """Return a function that opens one of TensorBoard's pages."""
    get(address, "projector/runs")
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.set_default_timeout(PATIENCE)

    def show(name):
        opened.goto(f"{address}#{name}")
        return opened

    yield show
    opened.close()


def test_training_and_validation_share_a_chart(page):
    shown = page("custom_scalars")
    shown.get_by_text("Training and validation").wait_for()
    chart = shown.locator("tf-custom-scalar-multi-line-chart-card").first
    chart.get_by_text("Matches (2)").wait_for()


def test_mistakes_and_distortions_are_labelled(page):
    shown = page("images")
    shown.get_by_text(WRONG).first.wait_for()
    shown.get_by_text("distorted training photos").first.wait_for()
    shown.locator("tf-image-loader img").first.wait_for()


def test_every_class_has_a_precision_recall_curve(page):
    shown = page("pr_curves")
    for name in COLOURS:
        shown.get_by_text(f"classes/{name}").first.wait_for()


def test_the_summary_is_a_text(page, report):
    shown = page("text")
    shown.get_by_text(f"Test accuracy {report.test_accuracy:.1%}").wait_for()
    shown.get_by_text("Most frequent confusions").wait_for()


def test_the_settings_stand_beside_what_they_reached(page, report):
    shown = page("hparams")
    shown.get_by_text("final validation accuracy").first.wait_for()
    shown.get_by_text("random_brightness").first.wait_for()
    assert shown.get_by_text("max_file_size").count() == shown.get_by_text("print_misclassified").count() == 0
    assert report.test_accuracy < 1


def test_the_projector_draws_its_pictures(page):
    shown = page("projector")
    frame = shown.frame_locator("iframe").frame_locator("iframe")
    frame.get_by_text("Points: 60").wait_for()
    for _ in range(100):
        pixels = np.asarray(Image.open(BytesIO(shown.screenshot())).convert("RGB"), np.int64)[120:, 320:1080]
        # Points without pictures are grey or dark blue, and axes are thin lines.
        counts = {name: (np.abs(pixels - np.array(rgb) * 0.92).max(axis=2) < 24).sum() for name, rgb in COLOURS.items()}
        if min(counts.values()) > 400:
            return
        shown.wait_for_timeout(300)
    raise AssertionError(f"pixels of each colour: {counts}")


def test_the_projectors_routes_give_points_table_and_sprite(address):
    assert json.loads(get(address, "projector/runs")) == ["."]
    (embedding,) = json.loads(get(address, "projector/info?run=."))["embeddings"]
    points, features = embedding["tensorShape"]
    of = f"run=.&name={quote(embedding['tensorName'])}"
    tensor = np.frombuffer(get(address, f"projector/tensor?{of}"), np.float32)
    assert (points, features, len(tensor)) == (60, 3, 180)
    assert np.ptp(tensor) > 0.5
    head, *rows = get(address, f"projector/metadata?{of}").decode().splitlines()
    assert head.split("\t") == ["class", "split", "result", "predicted", "photo"]
    assert len(rows) == 60
    assert sum("\twrong\tmagenta\t" in row for row in rows) == 1
    with Image.open(BytesIO(get(address, f"projector/sprite_image?{of}"))) as sprite:
        assert sprite.size == (512, 512)


def test_final_figures_are_those_of_all_validation_photos(address, report):
    found = json.loads(get(address, "scalars/scalars?run=.&tag=" + quote("final/validation_accuracy", safe="")))
    assert found[0][2] == 1.0
    tested = json.loads(get(address, "scalars/scalars?run=.&tag=" + quote("final/test_accuracy", safe="")))
    assert tested[0][2] == pytest.approx(report.test_accuracy)


def test_the_run_that_is_kept_has_the_same_pages(config, report):
    folder = config.output_graph.parent / "runs" / "first"
    kept = {path.parent.relative_to(folder).as_posix() for path in folder.rglob("*.tfevents.*")}
    assert kept == {".", "train", "validation", "test"}
    assert not list(folder.rglob("*projector*"))


def test_another_head_draws_no_picture_again(config, report):
    folder = config.summaries_dir / "projector.retrain"

    def files():
        paths = [path for path in folder.iterdir() if path.name != "metadata.tsv"]
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}

    before = files()
    retrain(replace(config, run_name="second", how_many_training_steps=2))
    assert files() == before
