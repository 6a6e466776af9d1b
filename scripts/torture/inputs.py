"""Makes what is damaged: pictures of every kind, models of every format, an archive, a store; from nothing but a seed.

The same version of retrain makes the same bytes, so that a case can be repeated on another day; only the index of a
store holds the times of the photos. Of the codelab's own data only what `--data` names is used.
"""

import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scripts.make_sample_photos import KINDS, draw_photo

from retrain.errors import RetrainError

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64  # of the images that the bundled network gets here
PER_CLASS = 12
MEAN_AND_STD = ("--input_mean=127.5", "--input_std=127.5")
_SMALL = (61, 47)
_PROBLEM = "the torture needs a {what} to begin with, and could not make it"


@dataclass(frozen=True)
class Inputs:
    """Folders of what is damaged; each file's name ends as its format does."""

    folder: Path

    @property
    def pictures(self) -> Path:
        """Return the folder of small pictures, one of each kind."""
        return self.folder / "pictures"

    @property
    def photos(self) -> Path:
        """Return the class folders that runs train on."""
        return self.folder / "photos"

    @property
    def models(self) -> Path:
        """Return the folder of small models in every format."""
        return self.folder / "models"

    @property
    def weights(self) -> Path:
        """Return the folder of networks to train on."""
        return self.folder / "weights"

    @property
    def clean(self) -> Path:
        """Return the results of undisturbed runs."""
        return self.folder / "clean"

    @property
    def store(self) -> Path:
        """Return the --bottleneck_dir of an undisturbed run on the bundled network."""
        return self.clean / "head" / "new" / "bottlenecks"


def make(folder: Path, kinds: Sequence[str], data: Path | None) -> Inputs:
    """Return what the kinds of cases need, made in a folder that is empty or has it already.

    Args:
        folder: Where it goes.
        kinds: Names of kinds, as the table has them.
        data: Folder of downloaded archives, which are damaged too.
    """
    inputs = Inputs(folder)
    if not inputs.pictures.exists():
        _draw_pictures(inputs.pictures)
    if set(kinds) <= {"image", "labels"}:
        return inputs
    if not inputs.photos.exists():
        _draw_photos(inputs.photos)
    if {"model", "metadata", "weights"} & set(kinds) and not inputs.models.exists():
        _train_models(inputs)
    if "weights" in kinds and not inputs.weights.exists():
        _gather_weights(inputs, data)
    return inputs


def environment(scratch: Path) -> dict[str, str]:
    """Return the environment of a process that runs this checkout, and whose temporary files go into a folder."""
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    own = {"TMPDIR": str(scratch), "XDG_CACHE_HOME": str(scratch), "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**os.environ, **own}


def run_retrain(folder: Path, words: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
    """Start `retrain` with all results in a folder, a new process group, and return its process.

    `options` go to `Popen`.
    """
    places = {
        "output_graph": "graph.pb",
        "output_labels": "labels.txt",
        "summaries_dir": "summaries",
        "bottleneck_dir": "bottlenecks",
        "model_dir": "models",
        "intermediate_output_graphs_dir": "intermediate",
    }
    flags = [f"--{name}={folder / place}" for name, place in places.items()]
    flags.append("--architecture=mobilenet_bundled")  # the smallest; another one in `words` goes before it
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "retrain", *flags, *words],
        cwd=folder,
        env=environment(scratch),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )


def finish(folder: Path, words: Sequence[str], what: str) -> None:
    """Run `retrain` undisturbed, and fail where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    process = run_retrain(folder, words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, messages = process.communicate()
    if process.returncode:
        raise RetrainError(f"{_PROBLEM.format(what=what)}: {messages.decode(errors='replace').strip()[-500:]}")


def _draw_photos(folder: Path) -> None:
    aside = folder.with_name("photos.part")
    for kind in KINDS:
        (aside / kind).mkdir(parents=True, exist_ok=True)
        for number in range(PER_CLASS):
            photo = draw_photo(kind, f"torture/{number}")
            photo.thumbnail((160, 160))
            photo.save(aside / kind / f"{number}.jpg", quality=88)
    aside.rename(folder)


def _draw_pictures(folder: Path) -> None:
    """Draw one small picture in every form that a decoder has code of its own for."""
    aside = folder.with_name("pictures.part")
    aside.mkdir(parents=True, exist_ok=True)
    for name, content in _pictures():
        (aside / name).write_bytes(content)
    aside.rename(folder)


def _pictures() -> Iterator[tuple[str, bytes]]:
    rgb = Image.effect_mandelbrot(_SMALL, (-2, -1.2, 1, 1.2), 60).convert("RGB")
    ImageDraw.Draw(rgb).ellipse((5, 5, 40, 40), fill=(200, 60, 20))
    rgba = rgb.copy()
    rgba.putalpha(Image.linear_gradient("L").resize(_SMALL))
    grey, palette, bits = rgb.convert("L"), rgb.quantize(32), rgb.convert("1")
    deep = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    frames = [rgb.rotate(angle).quantize(16) for angle in (30, 60)]
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, image, options in (
        ("baseline.jpg", rgb, {}),
        ("progressive.jpg", rgb, {"progressive": True}),
        ("turned.jpg", rgb, {"exif": exif, "subsampling": 0}),
        ("cmyk.jpg", rgb.convert("CMYK"), {"restart_marker_blocks": 2}),
        ("grey.jpg", grey, {"icc_profile": b"profile" * 99}),
        ("rgb.png", rgb, {"exif": exif}),
        ("rgba.png", rgba, {}),
        ("palette.png", palette, {"transparency": 3}),
        ("deep.png", deep, {}),
        ("bits.png", bits, {}),
        ("key.png", rgb, {"transparency": (0, 0, 0)}),
        ("animated.png", frames[0], {"save_all": True, "append_images": frames[1:]}),
        ("still.gif", palette, {"transparency": 2}),
        ("animated.gif", frames[0], {"save_all": True, "append_images": frames[1:], "duration": 9}),
        ("rgb.bmp", rgb, {}),
        ("palette.bmp", palette, {}),
        ("bits.bmp", bits, {}),
        ("alpha.bmp", rgba, {}),
        ("lossy.webp", rgb, {"exif": exif}),
        ("lossless.webp", rgba, {"lossless": True}),
        ("animated.webp", rgb, {"save_all": True, "append_images": [rgba], "duration": 9}),
        ("raw.tif", rgb, {"exif": exif}),
        ("lzw.tif", rgba, {"compression": "tiff_lzw"}),
        ("deflate.tif", palette, {"compression": "tiff_adobe_deflate"}),
        ("jpeg.tif", rgb, {"compression": "jpeg"}),
        ("fax.tif", bits, {"compression": "group4"}),
        ("deep.tif", deep, {"compression": "packbits"}),
        ("float.tif", Image.fromarray(np.asarray(grey, np.float32) / 255), {}),
    ):
        file = io.BytesIO()
        form = {"jpg": "JPEG", "tif": "TIFF"}.get(name.rpartition(".")[2], name.rpartition(".")[2].upper())
        image.save(file, form, **options)
        yield name, file.getvalue()


def _train_models(inputs: Inputs) -> None:
    """Train on a network of a few hundred weights, so that most damage meets something other than weights."""
    aside = inputs.folder / "models.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    maker = [sys.executable, "-m", "scripts.torture.tiny_network", str(aside)]
    subprocess.run(maker, cwd=ROOT, env=environment(aside), check=True, capture_output=True)
    _take_dates_away(aside / "network.keras")
    onnx = ",onnx" if _has_onnx() else ""
    words = [f"--image_dir={inputs.photos}", f"--architecture={aside / 'network.keras'}", *MEAN_AND_STD]
    words += ["--how_many_training_steps=20", f"--export=saved_model,tflite_fp16,tflite_int8,keras{onnx}"]
    finish(aside / "trained", words, "model of each format")
    shutil.move(aside / "classifier.h5", aside / "trained")
    _take_dates_away(aside / "trained" / "graph.keras")
    aside.rename(inputs.models)


def _take_dates_away(path: Path) -> None:
    """Write a Keras file again without the times at which it was made."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["metadata.json"] = re.sub(
        rb'"date_saved": "[^"]*"', b'"date_saved": "2026-01-01@00:00:00"', members["metadata.json"]
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def _has_onnx() -> bool:
    return all(map(find_spec, ("onnxruntime", "tf2onnx")))


def _gather_weights(inputs: Inputs, data: Path | None) -> None:
    """Gather networks to train on: bundled weights, a frozen graph, a Keras file, a SavedModel and an archive."""
    aside = inputs.folder / "weights.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    trained = inputs.models / "trained"
    graph = next((trained / "bottlenecks").glob("*/backbone.pb")).read_bytes()
    (aside / "network.pb").write_bytes(graph)
    shutil.copy(inputs.models / "network.keras", aside)
    shutil.copytree(trained / "graph_saved_model", aside / "module")
    shutil.copy(ROOT / "src" / "retrain" / "backbones" / "weights" / "mobilenet_bundled.npz", aside)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in (("labels.txt", b"dummy\n"), ("frozen_graph.pb", graph)):
            entry = tarfile.TarInfo(f"mobilenet_v1_0.25_128/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    (aside / "archive.tgz").write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    for path in sorted(data.rglob("*.tgz")) if data else []:
        shutil.copy(path, aside)
    aside.rename(inputs.weights)
