import io
import os

import pytest
from conftest import photo
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.data import decoding, image_files
from retrain.errors import UsageError


def test_files_folders_and_patterns_are_named_in_the_order_of_the_words(tmp_path):
    for name in ("b/2.png", "b/deep/1.JPG", "a.png", "b/notes.txt", "b/.hidden/x.png"):
        photo(tmp_path / name, (1, 2, 3)) if not name.endswith("txt") else (tmp_path / name).write_text("")
    found = image_files.expand_paths([str(tmp_path / "b"), str(tmp_path / "a.png"), str(tmp_path / "gone.png")])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b/2.png", "b/deep/1.JPG", "a.png", "gone.png"]
    assert [path.name for path in image_files.expand_paths([f"{tmp_path}/**/*.png"])] == ["a.png", "2.png"]
    assert [path.name for path in image_files.expand_paths([f"{tmp_path}/[b]"])] == ["2.png", "1.JPG"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    path = photo(tmp_path / "a[1].png", (1, 2, 3))
    assert image_files.expand_paths([str(path)]) == [path]


def test_where_no_name_looks_like_an_images_the_files_are_looked_at(tmp_path):
    for name in ("IMG_1", "IMG_2"):
        photo(tmp_path / "x.png", (1, 2, 3)).rename(tmp_path / name)
    (tmp_path / "notes").write_text("no image")
    assert [path.name for path in image_files.expand_paths([str(tmp_path)])] == ["IMG_1", "IMG_2"]


def test_in_a_folder_the_content_decides_about_other_names_and_other_photos_are_named(tmp_path):
    for name in ("1.jpg", "2.jfif", "3.jpe", "sub/4"):
        photo(tmp_path / "x.png", (1, 2, 3))
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / "x.png").rename(tmp_path / name)
    for name in ("5.heic", "6", "7.NEF", "8"):
        (tmp_path / name).write_bytes({"6": b"\0\0\0\x18ftypheic", "8": b"\0\0\0\x18ftypcrx "}.get(name, b""))
    for name in ("notes.txt", "film.mp4"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypisom")
    os.mkfifo(tmp_path / "pipe")
    found = [path.name for path in image_files.expand_paths([str(tmp_path)])]
    assert found == ["1.jpg", "2.jfif", "3.jpe", "5.heic", "6", "7.NEF", "8", "4"]


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),  # an iPhone's
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc", "HEIC"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1A", "AVIF"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1miafMA1Aavif", "AVIF"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0mif1avif", "HEIC"),  # the list of brands ends before
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41avc1", None),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", None),
        (b"\0\0\0\x18heicheic", None),
        (b"", None),
    ],
)
def test_heic_and_avif_are_told_apart_by_their_brands(beginning, kind):
    assert image_files.brand_format(beginning) == kind
    assert image_files.has_image_magic(beginning[: image_files.MAGIC_BYTES]) is (kind is not None)


@pytest.mark.parametrize("word", ["https://example.org/a.jpg", "HTTP://x/y.png"])
def test_a_url_is_refused_with_what_to_do(word):
    with pytest.raises(UsageError, match="is a URL, and only files are read. Download it first"):
        image_files.expand_paths([word])


def test_what_holds_no_images_is_said(tmp_path):
    for word in (str(tmp_path), f"{tmp_path}/*.jpg"):
        with pytest.raises(UsageError, match="no image files in"):
            image_files.expand_paths([word])


def test_lists_are_read_line_by_line_with_any_name():
    class Pipe(io.BytesIO):
        """A pipe through which one line comes at a time, and that breaks where it is read too far."""

        def read1(self, size=-1):
            line = self.readline()
            assert line != b"too far\n"
            return line

    taken = image_files.read_paths(Pipe(b'a b.jpg\n\nit\'s "x".png\r\ntoo far\n'))
    assert [str(next(taken)), str(next(taken))] == ["a b.jpg", 'it\'s "x".png']


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a.jpg\0b\nc.jpg\0", [b"a.jpg", b"b\nc.jpg"]),
        (b"a.jpg\0\0b.jpg\r", [b"a.jpg", b"b.jpg\r"]),
        (b"caf\xe9.jpg\nb.jpg", [b"caf\xe9.jpg", b"b.jpg"]),
        (b"", []),
    ],
)
def test_lists_with_nul_between_names_and_names_of_any_encoding_are_read(content, names):
    assert [os.fsencode(path) for path in image_files.read_paths(io.BytesIO(content))] == names


def test_a_stream_that_is_no_list_is_refused_and_not_kept():
    with pytest.raises(UsageError, match="holds no list of files"):
        list(image_files.read_paths(io.BytesIO(b"a" * 2**20)))


def test_names_of_no_encoding_survive(tmp_path):
    path = photo(tmp_path / os.fsdecode(b"\xff\xfe.png"), (1, 2, 3))
    assert image_files.expand_paths([str(tmp_path)]) == [path]


@settings(max_examples=100, derandomize=True)
@given(st.sampled_from([b"", *image_files._MAGIC, b"RIFF", b"\0\0\0\x18"]), st.binary(max_size=100))
def test_any_bytes_are_of_a_format_or_of_none(magic, rest):
    data = magic + rest
    known = image_files.has_image_magic(data[: image_files.MAGIC_BYTES])
    assert known or not decoding.is_decoded_otherwise(data)
    assert image_files.other_format(data[: image_files.MAGIC_BYTES]) in (None, "HEIC", "AVIF", "CR3")


class Pieces(io.RawIOBase):
    """A stream that gives its bytes in pieces of some sizes."""

    def __init__(self, data, sizes):
        self.data, self.sizes = data, iter(sizes)

    def read1(self, most):
        size = min(next(self.sizes, most), most)
        piece, self.data = self.data[:size], self.data[size:]
        return piece


@settings(max_examples=100, derandomize=True)
@given(
    st.lists(st.binary(min_size=1, max_size=8).filter(lambda name: not set(name) & {0, 10, 13})),
    st.sampled_from([b"\n", b"\r\n", b"\0"]),
    st.lists(st.integers(1, 9), max_size=30),
    st.booleans(),
)
def test_any_names_arrive_however_a_pipe_cuts_them(names, separator, sizes, ended):
    text = separator.join(names) + (separator if ended or separator == b"\0" else b"")
    whole = text if separator == b"\0" else text.removesuffix(b"\r")
    if separator == b"\0":  # known by its first block, as `find -print0` writes it
        sizes = []
    found = [os.fsencode(path) for path in image_files.read_paths(Pieces(whole, sizes))]
    assert found == [os.fsencode(os.fspath(image_files.Path(os.fsdecode(name)))) for name in names]
