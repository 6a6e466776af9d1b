import base64
import contextlib
import http.client
import http.server
import io
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import NAMES, export_source, exported, graph_model, pixels_of, quarters
from conftest import command
from PIL import ExifTags, Image

from retrain import files
from retrain.data import decoding
from retrain.errors import ExportError
from retrain.formats import frozen_graph, saved_model
from retrain.formats import table as format_table
from retrain.graphs import reading
from retrain.metadata import METADATA_FILE


@pytest.fixture(scope="module")
def saved(tmp_path_factory, mean_colour_backbone):
    """A classifier of mean colours as a SavedModel, and as a frozen graph to compare with."""
    folder = tmp_path_factory.mktemp("saved")
    path = exported(mean_colour_backbone, folder / "g.pb")
    saved_model.write(export_source(path), folder / "saved")
    return folder / "saved", path


@pytest.fixture(scope="module")
def encoded(saved):
    return saved_model.ImageFileModel(saved[0])


def expected(saved, data):
    pixels = decoding.decode(data, height=16, width=16)
    return graph_model(saved[1])(pixels[None])[0]


def corners(folder):
    """Return a SavedModel that looks at the upper left corner only: what it sees there tells how a photo was turned."""
    import tensorflow as tf

    path = folder / "corner.pb"
    with tf.Graph().as_default() as graph:
        picture = tf.compat.v1.placeholder(tf.float32, [None, 16, 16, 3], name="Placeholder")
        corner = tf.reshape(picture[:, 2:6, 2:6, :], [-1, 16, 3])
        tf.nn.softmax(tf.reduce_mean(corner, 1) * 9, name="final_result")
        path.write_bytes(graph.as_graph_def().SerializeToString())
    source = export_source(path)
    source = replace(source, metadata=replace(source.metadata, labels=("r", "g", "b")))
    saved_model.write(source, folder / "corner")
    return saved_model.ImageFileModel(folder / "corner"), frozen_graph.load(path, source.metadata)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("rest", [None, b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_broken_exif_turns_nothing(saved, encoded, rest):
    exif = b"" if rest is None else b"Exif\0\0" + rest
    buffer = io.BytesIO()
    quarters().save(buffer, "JPEG", exif=exif)
    assert encoded(buffer.getvalue()) == pytest.approx(expected(saved, buffer.getvalue()), abs=0.02)


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_animated_gif_is_its_first_frame(saved, encoded):
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert encoded(buffer.getvalue()) == pytest.approx(expected(saved, buffer.getvalue()), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("data", [b"", b"rubbish", b"\xff\xd8\xff\xe0rubbish"])
def test_what_is_no_image_is_refused(encoded, data):
    assert np.isnan(encoded(data)).all()


@pytest.mark.slow
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


@pytest.mark.slow
def test_real_photos_get_the_classes_that_training_gives_them(saved, encoded, codelab_data):
    photos = sorted((codelab_data / "datasets" / "flowers_1100").glob("*/*.jpg"))[::100]
    assert len(photos) >= 2
    for photo in photos:
        assert encoded(photo.read_bytes()) == pytest.approx(expected(saved, photo.read_bytes()), abs=0.02)


@pytest.mark.slow
def test_our_own_saved_model_passes_the_allow_list(saved):
    assert reading.read_saved_model(saved[0]).meta_graphs


@pytest.mark.slow
def test_the_folder_is_replaced_whole_and_only_if_it_is_ours(saved, tmp_path):
    for _ in range(2):
        saved_model.write(export_source(saved[1]), tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    saved_model.check(tmp_path / "saved")
    (tmp_path / "saved" / "retrain.json").unlink()
    with pytest.raises(ExportError, match="holds other files already"):
        saved_model.check(tmp_path / "saved")


@pytest.mark.parametrize("name", ["notes.txt", "variables/mine.npy", "assets/labels.txt", "variables/a/b"])
@pytest.mark.slow
def test_a_file_that_the_user_put_into_the_folder_is_not_lost(saved, tmp_path, name):
    folder = tmp_path / "saved"
    saved_model.write(export_source(saved[1]), folder)
    old = (folder / "saved_model.pb").stat().st_ino
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("a year of work")
    for replace_it in (saved_model.check, lambda path: saved_model.write(export_source(saved[1]), path)):
        with pytest.raises(ExportError, match=f"holds other files already, {name} among them"):
            replace_it(folder)
    assert (folder / name).read_text() == "a year of work"
    assert (folder / "saved_model.pb").stat().st_ino == old
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_the_signatures(graph, pictures, tmp_path):
    folder = format_table.path_of(graph, "saved_model")
    shown = command("saved_model_cli", "show", "--dir", folder, "--all", cwd=tmp_path).stdout
    assert "signature_def['serving_default']" in shown
    assert "signature_def['pixels']" in shown
    np.save(tmp_path / "pixels.npy", np.stack([pixels_of(path) for path in pictures.values()]).astype(np.float32))
    np.save(tmp_path / "files.npy", np.array([path.read_bytes() for path in pictures.values()]))
    for signature, given in (("serving_default", "image_bytes=files.npy"), ("pixels", "pixels=pixels.npy")):
        command(
            "saved_model_cli", "run", "--dir", folder, "--tag_set", "serve", "--signature_def", signature,
            "--inputs", given, "--outdir", signature, cwd=tmp_path,
        )  # fmt: skip
        labels = np.load(tmp_path / signature / "labels.npy", allow_pickle=True)
        assert [row[0].decode() for row in labels] == list(pictures)


class Serving(http.server.BaseHTTPRequestHandler):
    """Answers requests in the row format of TensorFlow Serving's REST interface by a signature.

    https://www.tensorflow.org/tfx/serving/api_rest#predict_api
    """

    signature = None

    def do_POST(self):
        import tensorflow as tf

        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ((argument, _),) = self.signature.structured_input_signature[1].items()
        values = [each.get(argument, each) for each in asked["instances"]]
        files = tf.constant([base64.b64decode(value["b64"]) for value in values])
        found = {name: result.numpy() for name, result in self.signature(**{argument: files}).items()}
        rows = [
            {
                name: [v.decode() if isinstance(v, bytes) else float(v) for v in values[i]]
                for name, values in found.items()
            }
            for i in range(len(files))
        ]
        body = json.dumps({"predictions": rows}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_rest_request_of_base64_images_is_answered(graph, pictures, wrapped):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(format_table.path_of(graph, "saved_model")))
    handler = type("Handler", (Serving,), {"signature": loaded.signatures["serving_default"]})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        files = [{"b64": base64.b64encode(path.read_bytes()).decode()} for path in pictures.values()]
        instances = [{"image_bytes": file} if wrapped else file for file in files]
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        connection.request("POST", "/v1/models/flowers:predict", json.dumps({"instances": instances}))
        predictions = json.load(connection.getresponse())["predictions"]
        connection.close()
    finally:
        server.shutdown()
        server.server_close()
    assert [row["labels"][0] for row in predictions] == list(pictures)
    for row in predictions:
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert row["probabilities"] == pytest.approx([row["scores"][row["labels"].index(name)] for name in NAMES])


def test_a_folder_of_someone_else_is_not_replaced(tmp_path, colour_images):
    taken = tmp_path / "tf_files" / "retrained_graph_saved_model"
    taken.mkdir(parents=True)
    (taken / "thesis.txt").write_text("years of work")
    done = command("retrain", "--image_dir", colour_images, "--export", "saved_model", cwd=tmp_path, code=1)
    assert "retrained_graph_saved_model holds other files already" in done.stderr
    assert (taken / "thesis.txt").read_text() == "years of work"


def model_folder(folder, content):
    folder.mkdir()
    (folder / METADATA_FILE).write_text("{}")
    (folder / "saved_model.pb").write_text(content)
    return folder


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_replaced_model_is_the_new_one_and_nothing_else_stays(tmp_path, monkeypatch, in_one_step):
    if not in_one_step:
        monkeypatch.setattr(saved_model, "exchange", lambda one, other: False)
    model_folder(tmp_path / "model", "old")
    saved_model.put_in_place(model_folder(tmp_path / "draft", "new"), tmp_path / "model")
    assert (tmp_path / "model" / "saved_model.pb").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_run_that_is_killed_after_any_renaming_leaves_a_whole_model(tmp_path, monkeypatch):
    if not files.exchange(model_folder(tmp_path / "model", "old"), model_folder(tmp_path / "other", "old")):
        pytest.skip("this system cannot")
    draft, rename = model_folder(tmp_path / "draft", "new"), Path.replace

    def killed(path, target):
        rename(path, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with contextlib.suppress(KeyboardInterrupt):
        saved_model.put_in_place(draft, tmp_path / "model")
    assert (tmp_path / "model" / "saved_model.pb").read_text() == "new"
