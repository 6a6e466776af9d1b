"""What a folder that cannot be used is answered with, and that the commands in the answers work."""

import shlex
import shutil
import subprocess

import pytest
from conftest import colour_folder, photo

from retrain.data.dataset import scan
from retrain.errors import DatasetError


def answer(folder):
    with pytest.raises(DatasetError) as caught:
        scan(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("unzip", [True, False])
@pytest.mark.parametrize("kind", ["zip", "gztar", "tar"])
def test_an_archive_is_unpacked_by_the_command_in_the_answer(tmp_path, monkeypatch, kind, unzip):
    if unzip and not shutil.which("unzip"):
        pytest.skip("no unzip here")
    if not unzip:
        monkeypatch.setattr("retrain.data.mistakes.shutil.which", lambda name: None)
    colour_folder(tmp_path / "source", per_class=1)
    archive = shutil.make_archive(str(tmp_path / "my photos"), kind, tmp_path / "source")
    shutil.rmtree(tmp_path / "source")
    said = answer(tmp_path / archive)
    assert "is an archive, and a folder is read" in said
    command, target = said.split("Unpack it first: ")[1].split(" (then give ")
    subprocess.run(shlex.split(command), check=True)
    assert scan(tmp_path / shlex.split(target.rstrip(")"))[0]).class_names == ("cyan", "magenta", "yellow")


def test_archives_without_a_command_are_said_to_be_some(tmp_path):
    (tmp_path / "photos.rar").touch()
    assert "is an archive, and a folder is read. Unpack it, and give the folder: " in answer(tmp_path / "photos.rar")


def test_another_file_is_called_a_file(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    assert "notes.txt is a file. Give a folder that holds one sub-folder per class." in answer(tmp_path / "notes.txt")


def test_a_folder_in_a_folder_is_found_through_several_and_beside_what_archives_leave(tmp_path):
    inner = colour_folder(tmp_path / "a" / "b" / "c", per_class=1)
    (tmp_path / "a" / "__MACOSX" / "c").mkdir(parents=True)
    assert f"Its folder {inner} has 3, 'cyan', 'magenta', 'yellow': if these are the classes, give that" in answer(
        tmp_path / "a"
    )


def test_a_split_in_a_folder_is_found(tmp_path):
    for split in ("train", "test"):
        colour_folder(tmp_path / "outer" / "inner" / split, per_class=1)
    assert f"Its folder {tmp_path / 'outer' / 'inner'} has 2, 'test', 'train'" in answer(tmp_path / "outer")


def test_one_class_whose_folder_has_parts_is_no_folder_in_a_folder(tmp_path):
    photo(tmp_path / "only" / "old" / "1.png", (1, 2, 3))
    assert "Make one sub-folder per class" in answer(tmp_path)


def test_one_of_the_classes_is_answered_with_the_folder_above(tmp_path, monkeypatch):
    colour_folder(tmp_path, per_class=1)
    assert f"It looks like one of the classes in {tmp_path}: give that folder." in answer(tmp_path / "cyan")
    monkeypatch.chdir(tmp_path / "cyan")
    assert "It looks like one of the classes in ..: give that folder." in answer(
        (tmp_path / "cyan").relative_to(tmp_path / "cyan")
    )


def test_a_misspelt_folder_is_answered_with_those_that_are_there(tmp_path):
    colour_folder(tmp_path / "Flower_Photos", per_class=1)
    assert f"Did you mean {tmp_path / 'Flower_Photos'}?" in answer(tmp_path / "flower_photo")
    assert "Give a folder that holds one sub-folder per class." in answer(tmp_path / "gone" / "further")
