import io

import numpy as np
import pytest
from builders import exported
from conftest import DATA
from PIL import ExifTags, Image

from retrain.data import decoding
from retrain.errors import ExportError
from retrain.formats import frozen_graph, saved_model
from retrain.graphs import reading


@pytest.fixture(scope="module")
def saved(tmp_path_factory, mean_colour_backbone):
    """A classifier of mean colours as a SavedModel, and as a frozen graph to compare with."""
    folder = tmp_path_factory.mktemp("saved")
    path = exported(mean_colour_backbone, folder / "g.pb")
    saved_model.write(folder / "saved", reading.read_graph(path), frozen_graph.describe(path))
    return folder / "saved", path


@pytest.fixture(scope="module")
def encoded(saved):
    return saved_model.Encoded(saved[0])


def expected(saved, data):
    pixels = decoding.decode(data, height=16, width=16)
    return frozen_graph.GraphModel(saved[1], frozen_graph.describe(saved[1]))(pixels[None])[0]


def quarters(size=(64, 48)):
    """Return a picture whose corners differ, red, green, blue and white: turned or mirrored it is another one."""
    picture = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    for place, colour in (((0, 0), "red"), ((width, 0), "lime"), ((0, height), "blue"), ((width, height), "white")):
        picture.paste(colour, (*place, place[0] + width, place[1] + height))
    return picture


def corners(folder):
    """Return a SavedModel that looks at the upper left corner only: what it sees there tells how a photo was turned."""
    import tensorflow as tf

    path = folder / "corner.pb"
    with tf.Graph().as_default() as graph:
        picture = tf.compat.v1.placeholder(tf.float32, [None, 16, 16, 3], name="Placeholder")
        corner = tf.reshape(picture[:, 2:6, 2:6, :], [-1, 16, 3])
        tf.nn.softmax(tf.reduce_mean(corner, 1) * 9, name="final_result")
        path.write_bytes(graph.as_graph_def().SerializeToString())
    told = frozen_graph.describe(path)
    told = type(told)(("r", "g", "b"), "Placeholder", "final_result", height=16, width=16, mean=0.0, std=255.0)
    saved_model.write(folder / "corner", reading.read_graph(path), told)
    return saved_model.Encoded(folder / "corner"), frozen_graph.GraphModel(path, told)


def test_photos_stand_upright_as_their_exif_says(tmp_path):
    serve, frozen = corners(tmp_path)
    seen = set()
    for orientation in range(1, 9):
        for big_endian in (False, True):
            exif = Image.Exif()
            exif.endian = ">" if big_endian else "<"
            exif[ExifTags.Base.Make] = "a maker of cameras"
            exif[ExifTags.Base.Orientation] = orientation
            buffer = io.BytesIO()
            quarters().save(buffer, "JPEG", quality=95, exif=exif)
            data = buffer.getvalue()
            ours = frozen(decoding.decode(data, height=16, width=16)[None])[0]
            assert serve(data) == pytest.approx(ours, abs=0.02), orientation
            seen.add(tuple(ours.round(1)))
    assert len(seen) == 4  # each corner was the upper left one


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("rest", [None, b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_broken_exif_turns_nothing(saved, encoded, rest):
    exif = b"" if rest is None else b"Exif\0\0" + rest
    buffer = io.BytesIO()
    quarters().save(buffer, "JPEG", exif=exif)
    assert encoded(buffer.getvalue()) == pytest.approx(expected(saved, buffer.getvalue()), abs=0.02)


@pytest.mark.parametrize(
    ("mode", "form"),
    [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("L", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"),
     ("P", "PNG"), ("P", "GIF"), ("RGB", "BMP"), ("RGB", "WEBP")],
)  # fmt: skip
def test_every_format_is_decoded_as_in_training(saved, encoded, mode, form):
    picture = quarters()
    if mode.endswith("A"):
        picture.putalpha(picture.convert("L").point(lambda grey: 255 if grey > 100 else 0))
    buffer = io.BytesIO()
    picture.convert(mode).save(buffer, form)
    assert encoded(buffer.getvalue()) == pytest.approx(expected(saved, buffer.getvalue()), abs=0.02)


def test_an_animated_gif_is_its_first_frame(saved, encoded):
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert encoded(buffer.getvalue()) == pytest.approx(expected(saved, buffer.getvalue()), abs=0.02)


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\xff\xd8\xff\xe0rubbish"])
def test_what_is_no_image_is_refused(encoded, data):
    assert np.isnan(encoded(data)).all()


def test_images_of_many_sizes_go_in_together(saved):
    import tensorflow as tf

    serve = tf.saved_model.load(str(saved[0])).signatures["serving_default"]
    files = []
    for size in ((30, 20), (200, 100), (1, 1)):
        buffer = io.BytesIO()
        Image.new("RGB", size, "blue").save(buffer, "PNG")
        files.append(buffer.getvalue())
    found = serve(tf.constant(files))
    assert found["labels"].numpy()[:, 0].tolist() == [b"blue"] * 3
    assert found["scores"].numpy()[:, 0] == pytest.approx(found["probabilities"].numpy()[:, 2])


def test_real_photos_get_the_classes_that_training_gives_them(saved, encoded, data):
    photos = sorted((DATA / "datasets" / "flowers_1100").glob("*/*.jpg"))[::100]
    assert len(photos) == 11
    for photo in photos:
        assert encoded(photo.read_bytes()) == pytest.approx(expected(saved, photo.read_bytes()), abs=0.02)


def test_our_own_saved_model_passes_the_allow_list(saved):
    assert reading.read_saved_model(saved[0]).meta_graphs


def test_the_folder_is_replaced_whole_and_only_if_it_is_ours(saved, tmp_path):
    graph, told = reading.read_graph(saved[1]), frozen_graph.describe(saved[1])
    for _ in range(2):
        saved_model.write(tmp_path / "saved", graph, told)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    saved_model.check(tmp_path / "saved")
    (tmp_path / "saved" / "retrain.json").unlink()
    with pytest.raises(ExportError, match="holds other files already"):
        saved_model.check(tmp_path / "saved")
