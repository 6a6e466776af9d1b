import json
import re
import sys
from dataclasses import replace
from html import unescape
from importlib.util import cache_from_source
from pathlib import Path

import numpy as np
import pytest
from pages import FACTS, NOTHING, learning, page, picture, report_of, small

from retrain.evaluation import metrics
from retrain.evaluation.evidence import Evidence
from retrain.evaluation.folds import CrossValidation
from retrain.evaluation.metrics import Interval
from retrain.evaluation.page import charts, templating, words
from retrain.evaluation.page.build import PAGE_BYTES, page_of
from retrain.evaluation.page.charts import ACCURACY, CROSS_ENTROPY, Series
from retrain.evaluation.page.facts import TrialFigures
from retrain.evaluation.report import Doubt

FOLDS = CrossValidation([1.0, 0.75], [4, 4], 0.875, 0.177, 0.875, Interval(0.53, 0.98), 0.3, 8)


def text_of(html):
    """Return what a page shows, without its markup, style and script."""
    html = re.sub(r"(?s)<(style|script)>.*?</\1>", "", html.decode())
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_the_opening_says_what_the_model_can_do_in_words_and_figures(tmp_path):
    report, evidence = small()
    text = text_of(page(tmp_path, report, evidence))
    low, high = report.test_interval.low, report.test_interval.high
    assert f"66.7% of 12 test photos are right 95% interval {low:.1%} to {high:.1%}" in text
    assert (
        "Of 100 new photos like these, about 67 would be right; with 12 test photos, the true share probably lies"
        in text
    )
    assert "It is best at rose: 3 of 4 found. It is weakest at daisy: 2 of 4 found, 2 taken for rose." in text
    assert "26 November 2026, 14:05" in text
    assert "1 min 35 s" in text
    assert "retrain &#39;my photos&#39;" in text
    assert "39 24 training, 3 validation, 12 testing" in text
    assert "efficientnet_lite0 224 x 224 px, 1,280 features, 13.4 MB" in text


def test_a_small_test_never_stands_alone(tmp_path):
    report = report_of(["a", "b"], [0, 0, 1], [0, 0, 1], ["a/1", "a/2", "b/1"])
    alone = text_of(page(tmp_path, report, NOTHING))
    assert "95% interval 43.9% to 100.0%" in alone
    assert "That is a small test: --folds 5 tests on all photos." in alone
    folded = text_of(page(tmp_path, replace(report, cross_validation=FOLDS), NOTHING))
    assert "A 2-fold cross-validation, which tests on all 8 photos, gives 87.5%, and 75.0% to 100.0% on" in folded


def test_every_picture_is_in_the_page_once_however_often_it_is_shown(tmp_path):
    report, evidence = small()
    html = page(tmp_path, report, evidence).decode()
    assert html.count("data:image/jpeg") == len(evidence.pictures) == html.count("<image ")
    assert html.count("<use ") > len(evidence.pictures)
    assert set(re.findall(r'<use href="#(p\d+)"', html)) == set(re.findall(r'<image id="(p\d+)"', html))


def test_the_score_of_the_true_class_is_always_shown(tmp_path):
    report, evidence = small()
    scores = [("rose", 0.5), ("a", 0.2), ("b", 0.15), ("c", 0.1), ("daisy", 0.05)]
    (first, *others) = evidence.wrong
    evidence = replace(evidence, wrong=[replace(first, scores=scores), *others])
    card = re.search(r'(?s)id="photo-1">.*?</article>', page(tmp_path, report, evidence).decode())[0]
    assert re.findall(r"<li[^>]*><span>(\w+)</span>", card) == ["rose", "a", "b", "daisy"]


def test_cells_link_to_their_photos(tmp_path):
    report, evidence = small()
    html = page(tmp_path, report, evidence).decode()
    assert re.search(r'<a href="#cell-0-1" aria-label="daisy taken for rose: 2 photos"[^>]*>2</a>', html)
    links, anchors = set(re.findall(r'href="#(cell-[^"]+)"', html)), re.findall(r'id="(cell-[^"]+)"', html)
    assert links == set(anchors)
    assert len(anchors) == len(set(anchors)) == 6


@pytest.mark.parametrize("pictures", [True, False])
def test_a_page_of_ten_thousand_test_photos_is_small_enough_to_mail(tmp_path, pictures):
    random = np.random.default_rng(0)
    names = [f"class {number:03}" for number in range(1000)]
    labels = np.arange(10_000) % 1000
    predicted = np.where(random.random(10_000) < 0.3, random.integers(0, 1000, 10_000), labels)
    paths = [f"{names[label]}/photo with a long name {row}.jpg" for row, label in enumerate(labels)]
    report = report_of(names, labels, predicted, paths, measured=learning(400))
    evidence = NOTHING
    if pictures:
        some = {path: picture(row) + bytes(4500) for row, path in enumerate(paths[:1000])}
        cells = {}
        for row, path in enumerate(some):
            cells.setdefault((int(labels[row]), int(predicted[row])), []).append(path)
        evidence = Evidence((), (), cells, some, {"misclassified photos": 812}, "", unreadable=3)
    html = page(tmp_path, report, evidence)
    assert len(html) <= PAGE_BYTES
    text = text_of(html)
    assert "The confusion matrix of 1000 classes is in the JSON file" in text
    assert "960 more classes" in text
    if pictures:
        assert "Left out, to keep this page small: 812 misclassified photos." in text
        assert "Not shown, as they cannot be read any more: 3 photos." in text
        assert re.search(r"Left out, to keep this page small: \d+ pictures\.", text)
        assert html.count(b"<image ") > 500


def test_many_classes_begin_with_those_that_are_confused_most(tmp_path):
    names = [f"c{number}" for number in range(100)]
    labels = np.repeat(np.arange(100), 3)
    predicted = labels.copy()
    predicted[[150, 151, 152, 9]] = [7, 7, 7, 8]
    html = page(tmp_path, report_of(names, labels, predicted, [f"{n}.jpg" for n in range(300)]), NOTHING)
    text = text_of(html)
    assert text.index("c50 taken for c7") < text.index("c3 taken for c8")
    rows = re.findall(r'<tr><th scope="row">(c\d+)</th>', html.decode())
    assert rows[:2] == ["c50", "c3"]
    assert sorted(rows) == sorted(names)


def test_hostile_names_are_text(tmp_path):
    hostile = "<script>window.hit=1</script>", "\"onload='alert(1)", "caf\udce9\n\u202e"
    report, evidence = small(hostile)
    html = page(tmp_path, report, evidence).decode()
    assert html.count("<script>") == 1
    assert "caf\\udce9\\n\\u202e" in html
    assert "\u202e" not in html
    assert not re.search(r"<[^>]*\sonload=", html)
    keys = re.findall(r'data-path="([^"]*)"', html)
    assert {json.loads(unescape(key)) for key in keys} >= {row.path for row in evidence.wrong}


def test_the_policy_allows_this_script_and_style_and_nothing_else(tmp_path):
    html = page(tmp_path, *small()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r'(src|href)="(https?:)?//', html)
    assert not re.search(r"<[^>]*\sstyle=", html)


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Return the folder where a process of its own would keep compiled templates, and what starts another one."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "compiled"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder = Path(cache_from_source(templating.__file__)).parent
    folder.mkdir(parents=True)
    templating._environment.cache_clear()
    yield folder, templating._environment.cache_clear
    templating._environment.cache_clear()


def test_templates_are_compiled_once_for_all_runs(tmp_path, compiled):
    folder, start_another = compiled
    first = page(tmp_path, *small())
    kept = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert kept
    start_another()
    assert page(tmp_path, *small()) == first
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == kept


def test_an_installation_that_cannot_keep_compiled_templates_makes_pages(tmp_path, compiled):
    folder, start_another = compiled
    folder.rmdir()
    first = page(tmp_path, *small())
    start_another()
    assert page(tmp_path, *small()) == first


def test_the_same_values_give_the_same_bytes(tmp_path):
    assert page(tmp_path, *small()) == page(tmp_path, *small())


def test_a_page_without_anything_to_test_on_says_so(tmp_path):
    report = report_of(["a", "b"], np.zeros(0, int), np.zeros(0, int), [])
    text = text_of(page(tmp_path, report, NOTHING))
    assert "not measured" in text
    assert "How good it is was not measured: there are no test photos." in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("names", "labels", "predicted", "said"),
    [
        (["a", "b"], [0, 0, 1], [0, 0, 1], ["It got all 3 test photos right, in every class."]),
        (["a", "b", "c"], [0, 0, 1], [0, 0, 1], ["It got all 3 test photos right, in every class that has some."]),
        (["a", "b"], [0, 0], [0, 1], ["a is the only class with test photos: 1 of 2 found, 1 taken for b."]),
        (["a", "b"], [0, 0, 1, 1], [0, 1, 0, 1], ["It is as good at one class as at another: 50% of each found."]),
        (
            ["a", "b"],
            [0] * 50 + [1],
            [0] * 40 + [1] * 11,
            ["It is best at b: 1 of 1 found.", "It is weakest at a: 40 of 50 found, 10 taken for b."],
        ),
    ],
)
def test_no_class_is_both_best_and_weakest(names, labels, predicted, said):
    report = report_of(names, np.array(labels), predicted, [f"{row}.jpg" for row in range(len(labels))])
    assert words.strengths(report) == said


def test_a_class_that_is_never_said_is_named(tmp_path):
    report = report_of(["a", "b", "c"], [0, 1, 2, 2], [0, 1, 0, 1], ["a/1", "b/1", "c/1", "c/2"])
    assert words.never_said(report) == ["c"]
    assert "It gives no test photo the class c." in text_of(page(tmp_path, report, NOTHING))


def test_a_sweep_is_shown_side_by_side(tmp_path):
    nan = float("nan")
    trials = [
        TrialFigures("LR_0.01", 0.9, 0.3, Interval(0.8, 0.95), 2.5, 13_400_000),
        TrialFigures("LR_90", nan, nan, Interval(nan, nan), nan, 0),
    ]
    text = text_of(page(tmp_path, *small(), run=replace(FACTS, trials=trials)))
    assert "LR_0.01 kept 90.0%" in text
    assert "0.3000 2.5 s 13.4 MB" in text
    assert "LR_90 failed" in text


def series(values, name="validation"):
    return Series(name, "strong", np.arange(len(values)) * 10, np.array(values))


def test_axes_fit_the_data_and_the_best_step_is_marked():
    values = [0.2, *np.linspace(0.9, 0.95, 49)]
    drawn = charts.draw(ACCURACY, [series(values)])
    assert all(float(tick.label[:-1]) >= 85 for tick in drawn.y_ticks)
    assert len(drawn.y_ticks) >= 3
    assert drawn.best.label.endswith("at step 490")
    losses = [2.0, *np.linspace(0.5, 0.3, 20), *np.linspace(0.3, 0.6, 20)]
    drawn = charts.draw(CROSS_ENTROPY, [series(losses, "training"), series(losses)])
    assert 180 <= int(drawn.best.label.split()[-1]) <= 220
    assert charts.LEFT <= drawn.best.x <= charts.WIDTH
    assert "validation ends at 0.5" in drawn.summary


def test_curves_without_validation_have_no_best_step():
    drawn = charts.draw(ACCURACY, [series([0.5, 0.6, 0.7], "training"), series([np.nan] * 3)])
    assert drawn.best is None
    assert [line.name for line in drawn.lines] == ["training"]
    assert charts.draw(ACCURACY, [series([0.5])]) is None


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_curve_has_an_axis_of_accuracies_that_there_are(value):
    drawn = charts.draw(ACCURACY, [series([value] * 10)])
    assert f"{100 * value:g}%" in [tick.label for tick in drawn.y_ticks]
    assert all(0 <= float(tick.label[:-1]) <= 100 for tick in drawn.y_ticks)


def test_fine_tuning_begins_where_the_head_ends(tmp_path):
    rows = learning(40)
    assert "fine-tuning</text>" in page(tmp_path, *small(measured=rows, steps=200)).decode()
    assert "fine-tuning</text>" not in page(tmp_path, *small(measured=rows, steps=391)).decode()
    # Where there is no room to the right, the word stands to the left.
    assert 'end">fine-tuning</text>' in page(tmp_path, *small(measured=rows, steps=380)).decode()


def test_what_the_page_says_of_right_photos_holds_for_all_of_them(tmp_path):
    report, evidence = small()
    assert "A few of each class, each beside where" in text_of(page(tmp_path, report, evidence))
    right = [replace(evidence.right[0], attention=None), *evidence.right[1:]]
    assert "A few of each class. " in text_of(page(tmp_path, report, replace(evidence, right=right)))


def test_marks_are_carried_out_on_the_folder_as_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    html = page_of(*small(), image_dir=Path("my data/photos"), folder=tmp_path, run=FACTS)
    assert "retrain &#39;my data/photos&#39; --apply_marks marks.jsonl" in html.decode()


def test_calibration_weighs_its_bins_by_their_photos():
    probabilities = np.array([[0.95, 0.05]] * 32 + [[0.65, 0.35]] * 8, np.float32)
    labels = np.array([0] * 24 + [1] * 8 + [0] * 8)
    found = metrics.calibration(probabilities, labels)
    assert [row.count for row in found.bins] == [0] * 6 + [8] + [0, 0, 32]
    assert found.error == pytest.approx(0.8 * 0.2 + 0.2 * 0.35, abs=1e-6)
    assert found.accuracy == pytest.approx(0.8)
    assert "89% sure, and 80% of its answers were right: its scores can be believed" in words.calibration_sentence(
        found
    )
    few = metrics.calibration(probabilities[:3], labels[:3])
    assert "so few photos cannot show whether its scores can be believed" in words.calibration_sentence(few)
    sure = metrics.calibration(np.repeat([[0.95, 0.05]], 400, axis=0), np.arange(400) % 2)
    assert "surer than it should be" in words.calibration_sentence(sure)
    assert "45.0 points over 400 photos" in words.calibration_sentence(sure)


def test_a_reliability_diagram_has_a_dot_for_each_bin_with_photos():
    found = metrics.calibration(np.array([[0.95, 0.05], [0.75, 0.25], [0.25, 0.75]], np.float32), np.array([0, 0, 0]))
    drawn = charts.reliability(found)
    assert [dot.label for dot in drawn.dots] == ["2 photos: 75% sure, 50% right", "1 photo: 95% sure, 100% right"]
    low, high = drawn.dots
    assert low.x < high.x
    assert low.y > high.y  # right ones are above
    assert low.radius > high.radius
    assert charts.reliability(metrics.calibration(np.zeros((0, 2), np.float32), np.zeros(0, int))).dots == []


def test_intervals_of_classes_count_each_photo_once():
    twice = metrics.class_figures(np.array([[6, 2], [0, 8]]))
    found = metrics.with_intervals_of(twice, np.array([[3, 1], [0, 4]]))
    assert found[0].recall == 0.75
    assert found[0].interval == metrics.wilson_interval(3, 4)
    assert found[1].precision_interval == metrics.wilson_interval(4, 5)


@pytest.mark.parametrize(("seconds", "said"), [(2.34, "2.3 s"), (33, "33 s"), (95, "1 min 35 s"), (7500, "2 h 5 min")])
def test_durations_are_said_as_people_do(seconds, said):
    assert words.duration(seconds) == said


def test_what_is_wrong_with_photos_has_a_section_that_names_the_command_which_shows_them(tmp_path):
    found = [
        Doubt("leakage", 0.5, "1 photo is a <copy>. Use --group_by duplicates.", ["rose/a.jpg"], {}),
        Doubt("shortcut", 0.4, "The size tells.", [], {}),
    ]
    html = page(tmp_path, *small(findings=found)).decode()
    section = html[html.index('<section id="doubts">') :].partition("</section>")[0]
    assert '1 photo is a &lt;copy&gt;. Use <span class="flag">--group_by</span> duplicates.' in section
    assert re.findall(r"<summary>(.*?)</summary>", section) == ["1 photo"]
    assert f"<code>check_images {tmp_path / 'photos'}</code>" in section
    assert 'href="#doubts"' in html
    plain = page(tmp_path, *small()).decode()
    assert "check_images" not in plain
    assert 'href="#doubts"' not in plain
