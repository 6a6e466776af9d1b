import json
from pathlib import Path

import numpy as np
import pytest
from doctor.photo_sets import gaussians, photos_of

from retrain.data import marks
from retrain.data.dataset import Dataset, Example
from retrain.data.marks import Action, Mark
from retrain.data.split import Split
from retrain.doctor import examining, writing
from retrain.doctor.examining import Examination
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos

PHOTOS = Photos(
    Dataset(Path("photos"), ("a", "b"), tuple(Example(f"a/{n}", 0, Split.TRAINING) for n in range(9))),
    lambda numbers: np.zeros((len(numbers), 4), np.float32),
    [None] * 9,
    np.zeros(9, np.int64),
    0,
)


def test_the_worst_comes_first_and_equally_bad_ones_are_in_the_order_of_kinds():
    rows = [(Kind.BALANCE, 0.5, "a"), (Kind.LABEL, 0.5, "b"), (Kind.LABEL, 0.5, "a"), (Kind.OUTLIER, 0.9, "z")]
    found = examining.worst_first([Finding(*row) for row in rows])
    assert [(finding.kind, finding.sentence) for finding in found] == [
        (Kind.OUTLIER, "z"),
        (Kind.LABEL, "a"),
        (Kind.LABEL, "b"),
        (Kind.BALANCE, "a"),
    ]


def test_photos_without_faults_have_no_findings():
    assert examining.examine(photos_of(*gaussians(120, apart=5))).findings == []


def test_the_nearest_photos_are_computed_once():
    assert PHOTOS.graph is PHOTOS.graph
    assert PHOTOS.graph.neighbours.shape == (9, 8)


def test_each_photo_has_the_mark_of_its_worst_finding(tmp_path):
    odd = "a/\udcff.jpg"  # no UTF-8
    found = [
        Finding(Kind.LABEL, 0.9, "s", marks=[Mark("a/1", Action.RELABEL, "b"), Mark(odd, Action.REMOVE)]),
        Finding(Kind.DUPLICATE, 0.2, "s", marks=[Mark("a/1", Action.REMOVE), Mark("a/2", Action.REMOVE)]),
    ]
    (tmp_path / "m.jsonl").write_bytes(writing.marks_file(Examination(PHOTOS, found)))
    assert marks.read(tmp_path / "m.jsonl").marks == [
        Mark("a/1", Action.RELABEL, "b"),
        Mark(odd, Action.REMOVE),
        Mark("a/2", Action.REMOVE),
    ]


def test_json_has_all_fields_and_no_number_that_is_none():
    found = [Finding(Kind.SPLIT_CLASS, 0.25, "s", ["a/1"], {"share": 0.5})]
    assert json.loads(writing.as_json(Examination(PHOTOS, found)))["findings"] == [
        {"kind": "split_class", "severity": 0.25, "sentence": "s", "photos": ["a/1"], "figures": {"share": 0.5}}
    ]
    with pytest.raises(ValueError, match="JSON"):
        writing.as_json(Examination(PHOTOS, [Finding(Kind.LABEL, 0.1, "s", (), {"share": float("nan")})]))
