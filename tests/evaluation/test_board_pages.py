import html
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrain.evaluation import board_pages, board_values, hparams
from retrain.evaluation import report as reports
from retrain.evaluation.folds import CrossValidation
from retrain.evaluation.metrics import Interval, Misclassified
from retrain.evaluation.page import words
from retrain.evaluation.tensorboard import TRAIN, Summaries

FOLDS = CrossValidation([1.0, 0.75], [4, 4], 0.875, 0.177, 0.875, Interval(0.53, 0.98), 0.3, 8)
HOSTILE = "<script>alert(1)</script>|`*_[a](b)"


class Classes:
    """As much of a data set as a report looks at."""

    notes = ()

    def __init__(self, names):
        self.class_names = names

    def counts(self, split):
        return [4] * len(self.class_names)


def report_of(names, per_class=3, seed=0):
    """Return the report of a model that guesses, and its scores."""
    dice = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(names)), per_class)
    scores = dice.dirichlet(np.ones(len(names)), len(labels)).astype(np.float32)
    test = reports.TestScores([f"{names[label]}/{row}.jpg" for row, label in enumerate(labels)], scores, labels)
    settings = reports.RunSettings("network", 20, 0.01, 0, {"optimizer": HOSTILE})
    return reports.make_report(settings, Classes(names), test, rejected={}, history=[], exports=[]), test


def jpeg(pixels):
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG")
    return encoded.getvalue()


def plugin_data(folder):
    """Return TensorBoard's own readers of a folder."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

    runs = EventMultiplexer(tensor_size_guidance={"images": 0}).AddRunsFromDirectory(str(folder))
    runs.Reload()
    return runs


def tensor(runs, run, tag):
    from tensorboard.util.tensor_util import make_ndarray

    (event,) = runs.Tensors(run, tag)
    return make_ndarray(event.tensor_proto)


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=40)
    | st.lists(st.tuples(st.integers(0, 100).map(lambda n: n / 100), st.booleans()), min_size=1, max_size=40)
)
def test_precision_and_recall_are_those_of_counting(rows):
    scores = np.array([score for score, _ in rows], np.float32)
    true = np.array([flag for _, flag in rows])
    found = board_values.precision_recall(scores, true)
    for number in (0, 1, 29, 57, 100):
        positive = scores >= np.float32(number / 100)
        counts = [positive & true, positive & ~true, ~positive & ~true, ~positive & true]
        assert found[:4, number].tolist() == [each.sum() for each in counts]
    hits, others, _, misses, precision, recall = found
    assert np.allclose(precision, hits / np.maximum(1, hits + others))
    assert np.allclose(recall, hits / np.maximum(1, hits + misses))


@pytest.mark.slow
def test_tensorboards_own_code_reads_every_page(tmp_path):
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.plugins.text import metadata as of_text

    report, test = report_of(["roses", HOSTILE])
    pixels = np.full((8, 6, 3), 100, np.uint8)
    with Summaries(tmp_path, runs=(board_pages.TEST,)) as summaries:
        summaries.add_values([board_pages.charts(), board_pages.summary(report), board_pages.distorted(pixels, ["a"])])
        summaries.add_values(board_pages.pr_curves(report, test))
        pictures = {photo.path: jpeg(pixels) for photo in report.misclassified}
        summaries.add_values(board_pages.misclassified(report.misclassified, pictures))
    runs = plugin_data(tmp_path)
    layout = layout_pb2.Layout.FromString(tensor(runs, "test", "custom_scalars__config__").item())
    assert [chart.title for chart in layout.category[0].chart] == ["Accuracy", "Cross entropy"]
    assert [list(chart.multiline.tag) for chart in layout.category[0].chart] == [
        ["^accuracy_1$"],
        ["^cross_entropy_1$"],
    ]
    assert runs.PluginRunToTagToContent(of_text.PLUGIN_NAME)["test"].keys() == {"summary"}
    assert b"Test accuracy" in tensor(runs, "test", "summary").item()
    assert tensor(runs, "test", "classes/roses").shape == (6, board_values.THRESHOLDS)
    width, height, encoded = tensor(runs, "test", "misclassified/01")
    assert (width, height, encoded) == (b"6", b"8", jpeg(pixels))
    first = max(report.misclassified, key=lambda photo: photo.score)
    shown = runs.SummaryMetadata("test", "misclassified/01")
    assert shown.display_name == f"{first.true}, taken for {first.predicted} ({first.score:.0%})"
    assert tensor(runs, "test", "distortions/first_column_undistorted")[2].startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer:DeprecationWarning")
def test_names_are_no_markup():
    from tensorboard.plugin_util import markdown_to_safe_html

    report, _ = report_of(["roses", HOSTILE])
    shown = markdown_to_safe_html(board_pages.summary(report).tensor.string_val[0].decode())
    assert not any(tag in shown for tag in ("<script", "<em>", "<code>", "<a"))
    assert shown.count("<tr>") == 1 + 2 + 1 + len({(p.true, p.predicted) for p in report.misclassified}) + 1 + 6
    assert HOSTILE in html.unescape(shown)


def test_very_many_classes_and_photos_are_bounded():
    report, test = report_of([f"class {number}" for number in range(120)])
    curves = board_pages.pr_curves(report, test)
    assert len(curves) == board_pages.MOST_CURVES
    shown = {curve.metadata.display_name for curve in curves}
    f1 = {name: figures.f1 for name, figures in zip(report.class_names, report.class_figures, strict=True)}
    assert max(f1[name] for name in shown) <= min(value for name, value in f1.items() if name not in shown)
    picture = jpeg(np.zeros((8, 8, 3), np.uint8))
    pictures = board_pages.misclassified(report.misclassified, {photo.path: picture for photo in report.misclassified})
    assert len(pictures) == board_pages.MOST_PICTURES
    assert board_pages.summary(report).ByteSize() < 20_000


def test_the_surest_mistakes_are_shown_and_unreadable_ones_left_out():
    photos = [Misclassified(f"{score}.jpg", "a", "b", score) for score in (0.5, 0.9, 0.7)]
    pictures = dict.fromkeys(["0.5.jpg", "0.9.jpg"], jpeg(np.zeros((4, 4, 3), np.uint8)))
    values = board_pages.misclassified(photos, pictures)
    shown = [value.metadata.display_name for value in values]
    assert [value.tag for value in values] == ["misclassified/01", "misclassified/03"]
    assert shown == ["a, taken for b (90%)", "a, taken for b (50%)"]


def test_the_summary_says_of_the_accuracy_what_the_page_of_the_report_says():
    report, test = report_of(["roses", "tulips"])
    # A photo that was sampled several times is no more evidence.
    test = replace(test, paths=[test.paths[0]] * 5 + test.paths[5:])
    settings = reports.RunSettings("n", 1, 0.1, 0, {})
    report = reports.make_report(settings, Classes(["roses", "tulips"]), test, rejected={}, history=[], exports=[])
    report = replace(report, cross_validation=FOLDS)
    shown = board_pages.summary(report).tensor.string_val[0].decode()
    assert words.accuracy_sentence(report) in shown
    assert "with 2 test photos, " in shown
    assert words.roughness(report) in shown
    assert "2-fold cross-validation" in shown


def test_a_run_without_test_photos_says_so():
    names = ["a", "b"]
    test = reports.TestScores([], np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    report = reports.make_report(
        reports.RunSettings("n", 1, 0.1, 0, {}), Classes(names), test, rejected={}, history=[], exports=[]
    )
    assert board_pages.pr_curves(report, test) == []
    assert "not measured" in board_pages.summary(report).tensor.string_val[0].decode()


@pytest.mark.slow
def test_curves_and_histograms_say_what_they_are(tmp_path):
    from retrain import head

    with Summaries(tmp_path) as summaries:
        summaries.scalars(TRAIN, np.arange(3), {"accuracy": np.ones(3), "cross_entropy": np.ones(3)})
        layer = head.linear(np.ones((3, 2), np.float32), np.zeros(2, np.float32))
        summaries.head(0, layer, np.zeros((4, 3), np.float32))
    runs = plugin_data(tmp_path)
    tags = [*runs.GetAccumulator(TRAIN).Tags()["tensors"]]
    assert len(tags) == 2 + 8 + 4
    described = {tag: runs.SummaryMetadata(TRAIN, tag) for tag in tags}
    assert described["accuracy_1"].display_name == "accuracy"
    assert all(each.display_name and each.summary_description for each in described.values())


@pytest.mark.slow
def test_a_single_run_is_on_the_page_of_settings_and_its_bytes_are_always_the_same(tmp_path):
    from tensorboard.plugins.hparams import metadata

    values = {name: float(number) for number, name in enumerate("hgfedcba")} | {"optimizer": "sgd"}
    figures = {"validation_accuracy": 0.75, "validation_cross_entropy": 0.5}
    (path,) = hparams.write_single(tmp_path, values, figures).values()
    runs = plugin_data(tmp_path)
    content = runs.PluginRunToTagToContent(metadata.PLUGIN_NAME)["."]
    session = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    assert session.hparams["a"].number_value == 7
    assert session.hparams["optimizer"].string_value == "sgd"
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
    tags = [info.name.tag for info in experiment.metric_infos]
    assert tags == ["final/validation_accuracy", "final/validation_cross_entropy", "final/test_accuracy"]
    assert [tensor(runs, ".", tag).item() for tag in tags[:2]] == [0.75, 0.5]
    # A map's own order changes from one process to the next.
    order = [path.read_bytes().rindex(f"\n\x01{name}".encode()) for name in "abcdefgh"]
    assert order == sorted(order)


def test_somebody_elses_files_stay(tmp_path):
    theirs = tmp_path / "events.out.tfevents.1.elsewhere"
    theirs.write_text("mine")
    for _ in range(2):
        hparams.write_single(tmp_path, {"a": 1.0}, {})
    assert theirs.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a\tb", "ü ñ", "\udcff", "日本"])
def test_odd_names_are_shown(tmp_path, name):
    report, test = report_of(["roses", name])
    with Summaries(tmp_path, runs=(board_pages.TEST,)) as summaries:
        summaries.add_values([board_pages.summary(report), *board_pages.pr_curves(report, test)])
    assert len(plugin_data(tmp_path).GetAccumulator("test").Tags()["tensors"]) == 3
