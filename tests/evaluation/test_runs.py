"""Kept runs: whole or not at all, under names that are safe, and listed whatever lies among them."""

import json
import os
import threading
from dataclasses import replace

import pytest
from test_promises import RECORD

from retrain.errors import ExportError, RetrainError, UsageError
from retrain.evaluation import runs
from retrain.evaluation.runs import Run, RunRecord

record = RunRecord.from_json(RECORD)


def names(folder):
    return [entry.name for entry in runs.kept(folder) if isinstance(entry, Run)]


def test_runs_are_listed_in_the_order_of_their_starts(tmp_path):
    for name, started in (("b", "2026-01-02T00:00:00+00:00"), ("a", "2026-01-03T00:00:00+00:00"), ("c", "2026-01-01")):
        runs.keep(tmp_path, name, replace(record, started=started), {})
    assert names(tmp_path) == ["c", "b", "a"]


def test_a_file_is_linked_so_that_the_next_run_may_replace_it(tmp_path):
    curves = tmp_path / "events"
    curves.write_bytes(b"of this run")
    kept = runs.keep(tmp_path / "runs", "a", record, {"train/events": curves, "x.csv": b"1"})
    curves.unlink()
    curves.write_bytes(b"of the next run")
    assert (kept / "train" / "events").read_bytes() == b"of this run"
    assert (kept / "x.csv").read_bytes() == b"1"


def test_a_name_that_is_taken_meanwhile_gets_a_number(tmp_path):
    kept = [runs.keep(tmp_path, "a", record, {}).name for _ in range(3)]
    assert kept == ["a", "a-2", "a-3"]


def test_runs_that_end_at_once_are_all_kept(tmp_path):
    started = threading.Barrier(8)

    def keep(number):
        started.wait()
        runs.keep(tmp_path, None, record, {"number": str(number).encode()})

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(tmp_path)) == 8
    assert {path.read_text() for path in tmp_path.glob("*/number")} == set(map(str, range(8)))


def test_a_run_that_cannot_be_kept_whole_leaves_nothing(tmp_path):
    with pytest.raises(ExportError, match="cannot keep the run"):
        runs.keep(tmp_path / "runs", "a", record, {"x.csv": b"1", "x.csv/y": b"2"})
    assert list((tmp_path / "runs").iterdir()) == []


def test_curves_that_another_run_replaced_meanwhile_cost_nothing_else(tmp_path):
    kept = runs.keep(tmp_path, "a", record, {"x.csv": b"1", "train/events": tmp_path / "gone"})
    assert {path.name for path in kept.rglob("*") if path.is_file()} == {"x.csv", "run.json"}


def test_what_a_killed_run_left_is_not_listed_and_goes_with_the_next(tmp_path):
    draft = tmp_path / ".a.999999999-0123abcd-0123abcd"
    draft.mkdir()
    (draft / "run.json").write_text(RECORD)
    os.utime(draft, (0, 0))
    assert list(runs.kept(tmp_path)) == []
    runs.check(tmp_path, "a", tmp_path / "photos")
    assert not draft.exists()


@pytest.mark.parametrize(
    "name", ["a", "mobilenet 0.5, lr=0.1", "\u00e9t\u00e9 \u96ea", "2026-11-25_14-05-09", "x" * 100]
)
def test_names_of_all_scripts_are_names(name, tmp_path):
    assert runs.is_name(name)
    assert runs.find(tmp_path, runs.keep(tmp_path, name, record, {}).name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        ".a",
        "-a",
        "a/b",
        "a\\b",
        "a\nb",
        "a\x1b[31m",
        "a ",
        "a.",
        "c:",
        "x" * 101,
        "\u96ea" * 40,
        "\udce9",
    ],
)
def test_other_words_are_no_names(name):
    assert not runs.is_name(name)


def test_a_name_that_exists_is_refused_with_the_remedy(tmp_path):
    kept = runs.keep(tmp_path, "a", record, {})
    with pytest.raises(UsageError, match=f"there is such a run. Give another name, or delete {kept} first"):
        runs.check(tmp_path, "a", tmp_path / "photos")
    runs.check(tmp_path, "b", tmp_path / "photos")


def test_the_folder_of_the_photos_is_no_folder_of_runs(tmp_path):
    with pytest.raises(UsageError, match="among the photos"):
        runs.check(tmp_path, None, tmp_path)


DAMAGED = [
    "", "{}", "[1]", "null", "[" * 10_000, '{"format": "other"}', '{"format": "retrain run 1"}',
    RECORD.replace('"2026-11', '"soon 2026-11'), RECORD.replace("90", '"ninety"'),
    RECORD.replace('"mobilenet_bundled"', "3"), RECORD.replace("0.5,", '"half",'), RECORD.replace("500", "null"),
    json.dumps({**json.loads(RECORD), "classes": None}), json.dumps({**json.loads(RECORD), "cross_validation": 0.9}),
    json.dumps({**json.loads(RECORD), "cross_validation": [0.9]}),
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_record_costs_no_other_run(tmp_path, text):
    runs.keep(tmp_path, "good", record, {})
    (runs.keep(tmp_path, "bad", record, {}) / "run.json").write_text(text)
    (tmp_path / "no run").mkdir()
    found = list(runs.kept(tmp_path))
    assert names(tmp_path) == ["good"]
    assert [str(entry) for entry in found if isinstance(entry, RetrainError)] != []
    with pytest.raises(RetrainError, match=r"cannot read .*run.json: .*Delete .*bad, or train again"):
        runs.find(tmp_path, "bad")


def test_a_run_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    runs.keep(tmp_path, "first", record, {})
    with pytest.raises(RetrainError, match="there is no run 'frist' in .* Did you mean first"):
        runs.find(tmp_path, "frist")


def test_a_pipe_is_no_record(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "run.json")
    assert names(tmp_path) == []


def test_settings_of_any_kind_are_written(tmp_path):
    odd = replace(record, settings={"output_graph": tmp_path, "hidden_units": (512, 256)})
    assert json.loads(odd.to_json())["settings"] == {"output_graph": str(tmp_path), "hidden_units": [512, 256]}
