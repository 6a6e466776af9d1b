"""`retrain --apply_marks` and `--undo_marks`, as people type them."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import command

RETRAIN = Path(sys.executable).with_name("retrain")
MARKS = [
    {"path": "roses/a.jpg", "mark": "relabel", "class": "tulips"},
    {"path": "roses/b.jpg", "mark": "remove"},
    {"path": "roses/\udcff.jpg", "mark": "remove"},
    {"path": "tulips/d.jpg", "mark": "keep"},
    {"path": "tulips/gone.jpg", "mark": "remove"},
]
# A command whose photos the disk does not let go.
READ_ONLY = """
import sys
def hook(event, arguments):
    if event in ("os.link", "shutil.copyfile"):
        raise PermissionError(13, "Permission denied")
sys.addaudithook(hook)
from retrain.cli.retrain import command
command()
"""


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "my photos"
    for path in ("roses/a.jpg", "roses/b.jpg", "roses/\udcff.jpg", "tulips/a.jpg", "tulips/d.jpg"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path, errors="surrogateescape")
    lines = [{"retrain_marks": 1, "image_dir": "my photos"}, *MARKS]
    (tmp_path / "marks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


def test_marks_are_carried_out_and_the_command_that_is_printed_undoes_them(photos, tmp_path):
    before = names(photos)
    done = command("retrain", "my photos", "--apply_marks", "marks.jsonl", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0] == "my photos: 1 relabelled, 2 removed, 1 kept."
    assert lines[1] == "Removed photos are in my photos_removed."
    assert done.stderr == "1 photo no longer there: 'tulips/gone.jpg'.\n"
    assert names(photos) == ["tulips/a-2.jpg", "tulips/a.jpg", "tulips/d.jpg"]
    assert names(tmp_path / "my photos_removed") == ["roses/b.jpg", "roses/\udcff.jpg"]
    assert not (tmp_path / "tf_files").exists()
    again = command("retrain", "my photos", "--apply_marks", "marks.jsonl", cwd=tmp_path).stdout.splitlines()
    assert again == ["my photos: 4 done already.", lines[-1]]
    undo = shlex.split(lines[-1].removeprefix("Undo with: "))
    assert undo[1:] == ["my photos", "--undo_marks", "my photos_marks/applied-1.jsonl"]
    undone = command("retrain", *undo[1:], cwd=tmp_path).stdout
    assert undone == "my photos, undone: 1 relabelled, 2 removed, 1 kept.\n"
    assert names(photos) == before
    assert command("retrain", *undo[1:], cwd=tmp_path).stdout == "my photos, undone: 3 undone already.\n"


@pytest.mark.parametrize(
    ("words", "code", "answer"),
    [
        (["--apply_marks", "gone.jsonl"], 1, "cannot read gone.jsonl: No such file or directory"),
        (["--apply_marks", "pipe"], 1, "cannot read pipe: not a regular file"),
        (["--apply_marks", "-"], 1, "cannot read -: No such file"),
        (["--apply_marks", "marks.jsonl", "--max_file_size", "9"], 1, "--max_file_size raises that"),
        (["--apply_marks", "bad.jsonl"], 1, "line 2 of bad.jsonl is damaged"),
        (["--apply_marks", "outside.jsonl"], 1, "../x.jpg is no path of a photo in a class folder of my photos"),
        (["--undo_marks", "marks.jsonl"], 1, "marks.jsonl is no list of what was done in my photos"),
        (["--apply_marks"], 2, "--apply_marks: expected one argument"),
        (["--apply_marks", "marks.jsonl", "--undo_marks", "x"], 2, "not allowed with argument --apply_marks"),
        (["--marks", "marks.jsonl"], 2, "Did you mean --apply_marks?"),
        (["--undo", "marks.jsonl"], 2, "Did you mean --undo_marks?"),
        (["--apply_mark", "gone.jsonl"], 1, "cannot read gone.jsonl"),
        (["--apply_marks", "marks.jsonl", "--testing_percentage", "101"], 2, "it must lie between 0 and 100"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_moves(photos, tmp_path, words, code, answer):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bad.jsonl").write_text('{"retrain_marks": 1}\n{"path": "roses')
    (tmp_path / "outside.jsonl").write_text('{"retrain_marks": 1}\n{"path": "../x.jpg", "mark": "remove"}')
    before = names(tmp_path)
    done = command("retrain", "my photos", *words, cwd=tmp_path, code=code)
    assert answer in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert names(tmp_path) == before


def test_a_folder_is_needed(photos, tmp_path):
    done = command("retrain", "--apply_marks", "marks.jsonl", cwd=tmp_path, code=2)
    assert "--image_dir is missing" in done.stderr


def test_a_photo_that_cannot_be_moved_is_named_in_one_line(photos, tmp_path):
    before = names(tmp_path)
    words = [sys.executable, "-c", READ_ONLY, "my photos", "--apply_marks", "marks.jsonl"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(
        r"retrain: cannot move photos of .*my photos: .*tulips/a-2\.jpg: Permission denied\. .*again\.\n", done.stderr
    )
    assert names(tmp_path) == before
    assert command("retrain", "my photos", "--apply_marks", "marks.jsonl", cwd=tmp_path).stdout.startswith(
        "my photos: 1 relabelled, 2 removed, 1 kept."
    )


@pytest.mark.slow
def test_two_commands_at_once_share_one_list(tmp_path):
    for number in range(300):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    before = names(tmp_path / "photos")
    marks = [{"path": path, "mark": "remove"} for path in before[10:]]
    (tmp_path / "marks.jsonl").write_text("\n".join(map(json.dumps, [{"retrain_marks": 1}, *marks])))
    words = [RETRAIN, "photos", "--apply_marks", "marks.jsonl"]
    running = [subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    counts = [dict((word, int(count)) for count, word in re.findall(r"(\d+) (removed|done)", text)) for text in said]
    assert sum(count.get("removed", 0) for count in counts) == 290
    assert sum(count.get("done", 0) for count in counts) == 290
    assert [path.name for path in (tmp_path / "photos_marks").iterdir()] == ["applied-1.jsonl"]
    command("retrain", "photos", "--undo_marks", "photos_marks/applied-1.jsonl", cwd=tmp_path)
    assert names(tmp_path / "photos") == before
