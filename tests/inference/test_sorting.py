import pytest
from conftest import photo

from retrain.errors import ExportError, UsageError
from retrain.inference import sorting


@pytest.mark.parametrize("link", [False, True])
def test_sorting_again_changes_nothing(tmp_path, link):
    image = photo(tmp_path / "in" / "a.png", (1, 2, 3))
    places = {sorting.put(image, "cats", tmp_path / "out", link=link) for _ in range(3)}
    assert places == {tmp_path / "out" / "cats" / "a.png"}
    assert [path.name for path in (tmp_path / "out" / "cats").iterdir()] == ["a.png"]
    (place,) = places
    assert place.is_symlink() == link
    assert place.read_bytes() == image.read_bytes()


@pytest.mark.parametrize("link", [False, True])
def test_images_of_one_name_are_all_kept(tmp_path, link):
    images = [photo(tmp_path / f"in{i}" / "a.png", (i * 40, 2, 3)) for i in range(3)]
    for _ in range(2):
        places = [sorting.put(image, "cats", tmp_path / "out", link=link) for image in images]
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
    assert sorting.put(image, label, tmp_path / "out", link=False).parent == tmp_path / "out" / folder


def test_a_folder_inside_what_is_labelled_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match="lies in"):
        sorting.check(tmp_path / "photos" / "sorted", [tmp_path / "photos"])
    sorting.check(tmp_path / "sorted", [tmp_path / "photos"])
    assert (tmp_path / "sorted").is_dir()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ExportError, match="cannot make .*out: .* Give another --sort_into"):
        sorting.check(tmp_path / "out", [])
    with pytest.raises(ExportError, match="Give another --sort_into"):
        sorting.put(photo(tmp_path / "a.png", (1, 2, 3)), "cats", tmp_path / "out", link=False)
