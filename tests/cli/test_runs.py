"""`retrain runs` and `retrain compare`, as commands in fresh processes."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import COLOURS, colour_folder, command, photo
from test_promises import RECORD

from retrain.evaluation import paired, runs
from retrain.evaluation.paired import PhotoPrediction
from retrain.evaluation.runs import RunRecord

RECORDED = RunRecord.from_json(RECORD)


def keep(folder, name, answers, **changes):
    """Keep a run whose test photos, of class "a", got these answers."""
    photos = [PhotoPrediction(f"a/{number}.jpg", "a", answer, 0.9) for number, answer in enumerate(answers)]
    record = replace(RECORDED, test_count=len(photos), **changes)
    return runs.keep(folder / "tf_files" / "runs", name, record, {runs.PREDICTIONS: paired.encode(photos)})


def test_runs_are_a_table(tmp_path):
    keep(tmp_path, "first", "ab", architecture="inception_v3")
    keep(tmp_path, "second", "aa", started="2026-11-26T10:00:00+01:00", test_accuracy=None)
    done = command("retrain", "runs", cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "run     when              architecture       photos  classes  test accuracy",
        "first   2026-11-25 14:05  inception_v3       90      2        50.0% (N=2)",
        "second  2026-11-26 10:00  mobilenet_bundled  90      2        -",
    ]
    listed = json.loads(command("retrain", "runs", "--json", cwd=tmp_path).stdout)
    assert [(row["name"], row["test_accuracy"]) for row in listed] == [("first", 0.5), ("second", None)]


def test_cross_validation_has_a_column_where_a_run_has_it(tmp_path):
    keep(tmp_path, "first", "ab")
    keep(tmp_path, "second", "aa", started="2026-11-26T10:00:00+01:00", cross_validation=(0.885, 0.0149))
    lines = command("retrain", "runs", cwd=tmp_path).stdout.splitlines()
    assert lines[0].endswith("test accuracy  cross-validation")
    assert lines[1].endswith("50.0% (N=2)    -")
    assert lines[2].endswith("50.0% (N=2)    88.5% +- 1.5")
    table = command("retrain", "compare", "first", "second", cwd=tmp_path).stdout.splitlines()[2:5]
    assert [line.split("  ")[-1].strip() for line in table] == ["cross-validation", "-", "88.5% +- 1.5"]


def test_a_run_that_cannot_be_read_is_named_beside_the_table(tmp_path):
    keep(tmp_path, "good", "ab")
    (keep(tmp_path, "bad", "ab") / "run.json").write_text("{")
    done = command("retrain", "runs", cwd=tmp_path, code=1)
    assert done.stdout.splitlines()[1].startswith("good")
    assert done.stderr.startswith("retrain runs: cannot read tf_files/runs/bad/run.json: ")
    assert len(done.stderr.splitlines()) == 1


def test_two_runs_are_compared_in_a_page_too(tmp_path):
    keep(tmp_path, "small & old", "a" * 20 + "b" * 12, settings={"learning_rate": 0.1, "hidden_units": [8, 4]})
    figures = keep(tmp_path, "large", "a" * 19 + "b" + "a" * 12) / "report.json"
    said = command("retrain", "compare", "small & old", "large", "--page=out/both.html", cwd=tmp_path).stdout
    assert said.endswith("Wrote out/both.html.\n")
    html = (tmp_path / "out" / "both.html").read_text()
    assert "<h1>small &amp; old or large?</h1>" in html
    assert "large is very likely better" in html
    assert "<td>0.1</td><td>default</td>" in html
    assert "<td>8 4</td><td>default</td>" in html
    assert html.count("<svg viewBox") == 0  # these runs have no curves
    row = {"validation_accuracy": 0.5, "validation_cross_entropy": None}
    for path in (figures, figures.parent.with_name("small & old") / "report.json"):
        path.write_text(json.dumps({"measured": [{"step": step, **row} for step in range(5)]}))
    command("retrain", "compare", "small & old", "large", "--page=out/both.html", cwd=tmp_path)
    assert (tmp_path / "out" / "both.html").read_text().count("<svg viewBox") == 1
    photos = tmp_path / "photo.jpg"
    photos.write_bytes(b"mine")
    done = command("retrain", "compare", "small & old", "large", "--page=photo.jpg", cwd=tmp_path, code=2)
    assert "Give one that ends in .html" in done.stderr
    assert not done.stdout
    assert photos.read_bytes() == b"mine"
    notes = tmp_path / "notes.html"
    notes.write_text("mine")
    done = command("retrain", "compare", "small & old", "large", "--page=notes.html", cwd=tmp_path, code=1)
    assert "cannot write notes.html: a file that is no HTML page is there. Give another --page" in done.stderr
    assert not done.stdout
    assert notes.read_text() == "mine"


def test_without_runs_the_next_step_is_said(tmp_path):
    assert (
        command("retrain", "runs", cwd=tmp_path).stdout
        == "no runs in tf_files/runs so far: retrain my_photos makes one\n"
    )


def test_two_runs_are_compared_in_words(tmp_path):
    keep(tmp_path, "small", "a" * 20 + "b" * 12)
    keep(tmp_path, "large", "a" * 19 + "b" + "a" * 12)
    lines = command("retrain", "compare", "small", "large", cwd=tmp_path).stdout.splitlines()
    assert lines[0] == "Both runs tested 32 photos:"
    assert "small  mobilenet_bundled  500    62.5%" in lines
    assert "large  mobilenet_bundled  500    96.9%" in lines
    assert "small right, large wrong: 1 photo" in lines
    assert "  a/19.jpg  (large said b, true label a)" in lines
    assert "large right, small wrong: 12 photos" in lines
    assert "  and 2 more: --csv and --json list all" in lines
    assert lines[-1].endswith("(McNemar's exact p = 0.0034): large is very likely better.")


def test_programs_get_all_flips(tmp_path):
    keep(tmp_path, "A", "a" * 5 + "b" * 15)
    kept = keep(tmp_path, "B", "b" + "a" * 19)
    result = json.loads(command("retrain", "compare", "A", str(kept), "--json", cwd=tmp_path).stdout)
    assert (result["photos"], result["accuracy"], len(result["only_second_right"])) == (20, [0.25, 0.95], 15)
    assert result["only_first_right"] == [{"image": "a/0.jpg", "true": "a", "first": "a", "second": "b"}]
    assert result["mcnemar_p"] == pytest.approx(2 * 17 / 2**16)
    rows = list(csv.DictReader(io.StringIO(command("retrain", "compare", "A", "B", "--csv", cwd=tmp_path).stdout)))
    assert [row["right"] for row in rows] == ["A"] + ["B"] * 15


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["compare", "A"],
            2,
            "the following arguments are required: RUN. `retrain compare --help` lists all arguments.",
        ),
        (["compare", "A", "C"], 1, "there is no run 'C' in tf_files/runs. `retrain runs` lists all."),
        (["compare", "A", "../runs"], 1, "there is no run '../runs'"),
        (["compare", "A", "empty"], 1, "A and empty have no test photo in common"),
        (
            ["compare", "A", "damaged"],
            1,
            "cannot read tf_files/runs/damaged/predictions.csv: no predictions of retrain.",
        ),
        (["runs", "--jsno"], 2, "unknown argument --jsno. Did you mean --json? `retrain runs --help` lists all."),
        (["runs", "x"], 2, "unknown argument x."),
        (["photos", "--run_name=A"], 2, "--run_name is 'A', and there is such a run. Give another name, or delete tf_"),
        (["photos", "--run_name=../A"], 2, "--run_name is '../A'; a name has 1 to 100 letters"),
        (
            ["photos", "--output_graph=photos/g.pb", "--run_name=A", "--steps"],
            2,
            "Did you mean --how_many_training_steps",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, words, code, said):
    colour_folder(tmp_path / "photos", per_class=1)
    keep(tmp_path, "A", "ab")
    keep(tmp_path, "empty", "")
    (keep(tmp_path, "damaged", "ab") / "predictions.csv").write_text("image\n")
    done = command("retrain", *words, cwd=tmp_path, code=code)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_sub_command_goes_before_a_folder_of_its_name(tmp_path):
    for name in ("runs", "compare"):
        photo(tmp_path / name / "one" / "1.png", COLOURS["cyan"])
    assert "no runs in" in command("retrain", "runs", cwd=tmp_path).stdout
    assert "only one class folder" in command("retrain", "./runs", cwd=tmp_path, code=1).stderr
    assert "only one class folder" in command("retrain", "--image_dir=compare", cwd=tmp_path, code=1).stderr


def test_runs_are_listed_without_numpy():
    code = "import sys, retrain.cli.runs; print({'numpy', 'PIL', 'tensorflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.slow
def test_a_training_is_kept_with_its_report_curves_and_predictions(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos")
    words = ["photos", f"--architecture={mean_colour_backbone}", "--bottleneck_tensor=mean_colour"]
    words += ["--how_many_training_steps=20", "--output_graph=out/g.pb"]
    for seed in (0, 1):
        command("retrain", *words, f"--random_seed={seed}", f"--run_name=seed {seed}", cwd=tmp_path)
    command("retrain", *words, cwd=tmp_path)
    folder = tmp_path / "out" / "runs"
    assert len(list(folder.iterdir())) == 3
    for seed in (0, 1):
        run = runs.read(folder / f"seed {seed}")
        report = json.loads((run.folder / "report.json").read_text())
        assert (run.record.random_seed, report["random_seed"]) == (seed, seed)
        assert run.record.command == ["retrain", *words, f"--random_seed={seed}", f"--run_name=seed {seed}"]
        assert run.record.test_count == len(runs.predictions(run)) == report["test_count"]
        assert "run_name" not in report["settings"]
        assert {path.parent.name for path in run.folder.glob("*/events.out.tfevents.*.retrain")} == {
            "train",
            "validation",
            "test",
        }
    # The report of the last run is the one beside the graph, byte for byte.
    last = max(folder.iterdir(), key=lambda path: runs.read(path).record.started)
    assert (last / "report.json").read_bytes() == (tmp_path / "out" / "g.report.json").read_bytes()
    assert (
        "Both runs tested"
        in command("retrain", "compare", "seed 0", last.name, "--output_graph=out/g.pb", cwd=tmp_path).stdout
    )
