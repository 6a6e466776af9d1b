"""`label_image --results`, as a command in fresh processes, and the flags that it refuses."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from builders import exported
from conftest import command, photo

from retrain.cli import flags, label_parts
from retrain.errors import UsageError
from retrain.storage.folders import RemoteFolder


@pytest.fixture
def graph(mean_colour_backbone, tmp_path):
    return exported(mean_colour_backbone, tmp_path / "g.pb")


@pytest.fixture
def photos(tmp_path):
    for number in range(3):
        photo(tmp_path / "photos" / f"{number}.png", (200, 0, 0), seed=number)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--cluster", "auto", "--csv"], "--cluster goes with --results"),
        (["--cluster_max", "3"], "--cluster_max goes with --results"),
        (["--results", "out"], "Give --csv or --json, too"),
        (["--results", "out", "--csv", "--sort_into", "x"], "Give one of them"),
        (["--results", "out", "--csv", "--cluster_min", "1"], "go with --cluster. Give --cluster auto"),
        (["--results", "out", "--csv", "--cluster", "auto", "--cluster_max", "0"], "at least 1"),
        (["--results", "out", "--csv", "--cluster", "auto", "--cluster_min", "-1"], "at least 0"),
        (
            ["--results", "out", "--csv", "--cluster", "auto", "--cluster_min", "3", "--cluster_max", "2"],
            "more than --cluster_max 2",
        ),
        (["--results", "out", "--csv", "--cluster", "somewhere"], "--cluster somewhere: not an address"),
        (["--results", "s3://name:secret@host/out", "--csv"], "has a password in it"),
        (["--results", "ftp://host/out", "--csv"], "is no protocol of folders"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(words, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=problem) as error:
        label_parts.check(flags.parse(flags.label_image_parser(), ["photos", *words]))
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_results_may_be_remote():
    args = flags.parse(flags.label_image_parser(), ["photos", "--json", "--results", "s3://bucket/out"])
    label_parts.check(args)
    assert args.results == RemoteFolder("s3://bucket", "out")


def test_parts_hold_what_would_be_printed_and_the_exit_code_is_the_same(graph, photos, tmp_path):
    words = ["label_image", "--graph", graph, "--csv", "photos"]
    printed = command(*words, cwd=tmp_path, code=1).stdout
    done = command(*words, "--results", "out", cwd=tmp_path, code=1)
    (part,) = (tmp_path / "out").iterdir()
    assert part.read_text() == printed
    assert "4 photos in" in done.stdout
    assert "label_image: 1 photo could not be read" in done.stderr
    again = command(*words, "--results", "out", cwd=tmp_path, code=1).stdout
    assert again == "4 photos: the part was there, in out\n"


@pytest.mark.slow
def test_a_list_on_standard_input_is_labelled(graph, photos, tmp_path):
    script = Path(sys.executable).with_name("label_image")
    words = [script, "--graph", graph, "--csv", "--results", "out", "-"]
    listed = b"photos/0.png\nphotos/gone.png\n"
    done = subprocess.run(words, cwd=tmp_path, input=listed, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    (part,) = (tmp_path / "out").iterdir()
    rows = list(csv.DictReader(io.StringIO(part.read_text())))
    assert [row["image"] for row in rows] == ["photos/0.png"] * 3 + ["photos/gone.png"]
    assert "No such file" in rows[-1]["error"]
