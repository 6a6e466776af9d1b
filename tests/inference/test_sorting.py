import re

import pytest
from conftest import photo

from retrain import files
from retrain.errors import ExportError, UsageError
from retrain.inference import sorting


@pytest.mark.parametrize("link", [False, True])
def test_sorting_again_changes_nothing(tmp_path, link):
    image = photo(tmp_path / "in" / "a.png", (1, 2, 3))
    places = {sorting.put(image, tmp_path / "out" / "cats", link=link) for _ in range(3)}
    assert places == {tmp_path / "out" / "cats" / "a.png"}
    assert [path.name for path in (tmp_path / "out" / "cats").iterdir()] == ["a.png"]
    (place,) = places
    assert place.is_symlink() == link
    assert place.read_bytes() == image.read_bytes()


@pytest.mark.parametrize("link", [False, True])
def test_images_of_one_name_are_all_kept(tmp_path, link):
    images = [photo(tmp_path / f"in{i}" / "a.png", (i * 40, 2, 3)) for i in range(3)]
    for _ in range(2):
        places = [sorting.put(image, tmp_path / "out" / "cats", link=link) for image in images]
    assert len({place.read_bytes() for place in places}) == 3
    assert sorted(place.name for place in places) == sorted(p.name for p in (tmp_path / "out" / "cats").iterdir())


@pytest.mark.parametrize(
    ("label", "folder"),
    [("Rose-A", "Rose-A"), ("тюльпан", "тюльпан"), ("../../etc", "_.._.._etc"), ("a/b", "a_b"), ("..", "_.."),
     ("", "_"), (".git", "_.git"), ("two\nlines", "two_lines"), ("C:\\x", "C__x"), ("\0", "_")],
)  # fmt: skip
def test_a_class_name_is_one_visible_folder(tmp_path, label, folder):
    assert sorting.folder_name(label) == folder
    image = photo(tmp_path / "a.png", (1, 2, 3))
    folders = sorting.class_folders([label], tmp_path / "out")
    assert sorting.put(image, folders[label], link=False).parent == tmp_path / "out" / folder


@pytest.mark.parametrize(
    "labels", [["a:b", "a_b", "c"], ["a_b", "c", "a:b"], ["a:b", "a?b", "c"], ["a:b", "a_b", "a?b", "c", "c"]]
)
def test_classes_are_kept_apart_whatever_their_names(tmp_path, labels):
    folders = sorting.class_folders(labels, tmp_path)
    assert len(set(folders.values())) == len(set(labels))
    assert all(folders[label] == tmp_path / label for label in {"a_b", "c"} & set(labels))


def test_what_a_killed_run_left_goes(tmp_path):
    image = photo(tmp_path / "a.png", (1, 2, 3))
    folders = sorting.class_folders(["cats"], tmp_path / "out")
    place = sorting.put(image, folders["cats"], link=False)
    own = files.aside(place)
    left = own.with_name(re.sub(r"\d+-", "999999999-", own.name, count=1))
    left.write_text("half a photo")
    sorting.class_folders(["cats"], tmp_path / "out")
    assert list(place.parent.iterdir()) == [place]


def test_a_folder_inside_what_is_labelled_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    photos = tmp_path / "photos"
    for word in ("photos", "photos/**/*.png", "photos/*/*/*.png", "photos/*", "photos/s*", "", "link", "link/**/*.png",
                 "p*", "**"):  # fmt: skip
        with pytest.raises(UsageError, match="lies in"):
            sorting.check(photos / "sorted", [str(tmp_path / word)])
    outside = ["photos/*.png", "photos/*/*.png", "photos/a*/**/*.png", "photos/x.png", "-"]
    sorting.check(photos / "sorted", [str(tmp_path / word) for word in outside])
    sorting.check(tmp_path / "sorted", [str(photos), str(photos / "**")])
    assert (tmp_path / "sorted").is_dir()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ExportError, match="cannot make .*out: .* Give another --sort_into"):
        sorting.check(tmp_path / "out", [])
    with pytest.raises(ExportError, match="Give another --sort_into"):
        sorting.put(photo(tmp_path / "a.png", (1, 2, 3)), tmp_path / "out" / "cats", link=False)
