"""`check_images` and `retrain --check` as commands."""

import json

import pytest
from conftest import command
from scenes import faultless_folder

from retrain.cli import check_images
from retrain.cli.retrain import main as retrain
from retrain.cli.retrain import parse
from retrain.errors import UsageError

RUN = "from retrain.cli.check_images import command; command()"


@pytest.fixture
def photos(tmp_path):
    folder = faultless_folder(tmp_path / "photos")
    (folder / "a" / "empty.jpg").write_bytes(b"")
    return folder


@pytest.mark.slow
def test_findings_are_sentences_or_json_and_a_gate_where_asked(photos, mean_colour_backbone, tmp_path):
    words = ["python", "-c", RUN, "photos", "--architecture", mean_colour_backbone]
    words += ["--bottleneck_tensor", "mean_colour"]
    done = command(*words, "--fail_on", "label,quality", cwd=tmp_path, code=1)
    assert done.stdout == (
        "1 of 51 files cannot be read as a photo: a/empty.jpg. Replace it, or take it out of the folder.\n"
    )
    assert done.stderr.endswith(
        "check_images: wrote tf_files/check_images.html, with proposals for 1 photo in "
        "tf_files/check_images.marks.jsonl\n"
        "check_images: failed, because --fail_on names what was found: quality (1)\n"
    )
    printed = command(*words, "--json", "--fail_on", "label", cwd=tmp_path).stdout
    assert printed == (tmp_path / "tf_files" / "check_images.json").read_text()
    assert [finding["kind"] for finding in json.loads(printed)["findings"]] == ["quality"]
    (photos / "a" / "empty.jpg").unlink()
    trained = ["retrain", *words[3:], "--check", "--output_graph", "out/g.pb"]
    assert command("python", "-m", *trained, cwd=tmp_path).stdout == "nothing found\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "check_images.html",
        "check_images.json",
        "check_images.marks.jsonl",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the folder is missing"),
        (
            ["photos", "--fail_on", "lable"],
            r"--fail_on: 'lable' is no kind of finding; kinds are balance, .*\. Did you mean label\? `check_images",
        ),
        (["photos", "--fail_on", ""], "--fail_on: '' is no kind of finding"),
        (["photos", "--page", "found.pdf"], "--page: 'found.pdf' is no name of a page; give one that ends in .html"),
        (["photos", "--group_by", "("], r"--group_by is '\('; give duplicates, exif, or a regular expression"),
        (["photos", "--precision", "int4"], "--precision is 'int4'"),
        (["photos", "--how_many_training_steps", "3"], "unknown argument --how_many_training_steps"),
        (["photos", "others"], "one folder of photos is read"),
    ],
)
def test_wrong_words_are_usage_errors(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check_images, "quieten", lambda verbose: None)  # of the whole process
    with pytest.raises(UsageError, match=message):
        check_images.main(words)
    assert not (tmp_path / "tf_files" / "check_images.html").exists()


def test_several_networks_are_no_look(tmp_path, monkeypatch):
    monkeypatch.setattr("retrain.cli.retrain.quieten", lambda verbose: None)
    with pytest.raises(UsageError, match="--check looks at photos with one network"):
        retrain(["photos", "--check", "--architecture", "efficientnet_lite0,inception_v3"])
    assert parse(["photos", "--check"]).check
    assert not parse(["photos", "--check=here"]).check  # TF-Hub's --checkpoint_path


def test_help_needs_no_numpy(tmp_path):
    code = (
        "import sys, retrain.cli.check_images as c; c.check_images_parser().format_help(); "
        "print({'numpy', 'PIL', 'tensorflow'} & set(sys.modules))"
    )
    assert command("python", "-c", code, cwd=tmp_path).stdout == "set()\n"
