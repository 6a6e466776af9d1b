"""What the doctor is measured by, as `scripts/doctor/measures.py` counts it."""

import numpy as np
import pytest
from conftest import COLOURS, ROOT, colour_folder, command
from doctor.photo_sets import gaussians, photos_of
from scripts.doctor import measures


def test_a_share_of_labels_is_flipped_to_any_other():
    right = np.arange(200) % 4
    changed = measures.flipped(right, seed=3, share=0.2)
    assert len(changed.wrong) == 40
    assert np.array_equal(np.flatnonzero(changed.labels != right), np.sort(changed.wrong))
    assert set(changed.labels[changed.wrong].tolist()) == {0, 1, 2, 3}
    assert np.array_equal(measures.flipped(right, seed=3, share=0.2).labels, changed.labels)


def test_a_share_of_some_classes_is_called_one_other_each():
    right = np.arange(200) % 4
    changed = measures.confused(right, seed=3, share=0.2, pairs=2)
    assert np.array_equal(np.flatnonzero(changed.labels != right), np.sort(changed.wrong))
    pairs, counts = np.unique(np.stack([right, changed.labels])[:, changed.wrong], axis=1, return_counts=True)
    assert counts.tolist() == [10, 10]
    assert len(set(pairs[0].tolist())) == len(set(pairs[1].tolist())) == 2


def test_rates_are_what_is_found_and_what_of_it_is_wrong():
    wrong = np.array([3, 5, 8, 9])
    assert measures.rates(np.array([8, 3, 1]), wrong) == (0.5, pytest.approx(2 / 3))
    assert measures.rates(np.zeros(0, np.int64), wrong) == (0, 1)
    assert measures.rates(np.array([8]), np.zeros(0, np.int64)) == (0, 0)


@pytest.mark.slow
def test_all_methods_name_labels_that_are_plainly_wrong(capsys):
    measures.print_labels({"gaussians": photos_of(*gaussians(200))}, [0.05], seeds=1)
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| set | flipped | ours, first heads | ours | cleanlab | in sample | ours, cleanlab, unflipped |"
    assert table[2] == f"| gaussians | 5.0% |{' 100%, 100% |' * 4} 0, 0 of 200 |"


def test_strangers_come_after_the_photos_and_a_part_has_those_of_its_numbers():
    vectors, labels = gaussians(60)
    photos = photos_of(vectors, labels)
    mixed = measures.with_strangers(photos, photos_of(vectors + 100, labels), seed=1)
    assert len(mixed.labels) == len(mixed.keys) == len(mixed.dataset.examples) == 60 + measures.STRANGERS
    assert mixed.gather(np.arange(60, 80)).min() > 50
    half = measures.part(mixed, np.array([2, 61]))
    assert [each.path for each in half.dataset.examples] == ["class_2/2.jpg", "strange/1"]
    assert np.array_equal(half.gather(np.arange(2)), mixed.gather(np.array([2, 61])))
    assert half.labels.tolist() == mixed.labels[[2, 61]].tolist()
    assert half.keys == [b"2", None]


@pytest.mark.slow
def test_tables_of_folders_of_photos_and_each_finding_once(tmp_path):
    for name in ("one", "other"):
        colour_folder(tmp_path / name, per_class=8)
    words = ["--architecture=mobilenet_bundled", f"--bottleneck_dir={tmp_path}/store", "--seeds=1", "--halves=1"]
    words += ["--only", "strangers", "alarms"]
    folders = [f"{tmp_path}/one", f"{tmp_path}/other"]
    done = command("python", "-m", "scripts.doctor.measures", *folders, *words, cwd=ROOT)
    strangers, alarms, findings = (table.splitlines() for table in done.stdout.split("\n\n"))
    for table in (strangers, alarms):
        assert [line.split(" | ")[0] for line in table[2:]] == ["| one", "| other"]
    assert f"| 0 of {8 * len(COLOURS)} |" in strangers[2]
    assert sum(line.startswith("- one (whole), too_few: Too few to learn from") for line in findings) == 1
    assert len(findings) == len(set(findings))
