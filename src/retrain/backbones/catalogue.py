"""The table of backbones: what `--architecture` may name, one row of data each."""

import difflib
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from retrain.errors import BackboneError

OFFICIAL = "imagenet"
RANDOM = "random"
DEFAULT = "mobilenet_bundled"
_DOWNLOADS = "https://storage.googleapis.com/download.tensorflow.org/models"
_MINUS_ONE_TO_ONE = 127.5
# The archives whose hash is known; any other is checked for being whole.
_SHA256 = {
    "mobilenet_0.25_128": "30af63cf9039861bc03f86c7b8092fab754d51b27f042830c456ddbfa2b72fce",
    "mobilenet_0.25_224": "1cddeede49eb35af36061aaa66bf643b81f7ea89abc85f6ffef8f0bf00891756",
}


class Kind(StrEnum):
    """Where the weights of a backbone come from."""

    BUNDLED = "bundled"
    ARCHIVE = "archive"
    KERAS = "keras"
    HUB = "hub"
    FILE = "file"


@dataclass(frozen=True)
class BackboneSpec:
    """One row: a backbone's name, the kind of its source, and what it takes and gives.

    It takes `(pixel - mean) / std` of RGB pixels 0 to 255, float32 [N, height, width, 3]. None stands for what
    only the file or module itself tells.
    """

    architecture: str
    kind: Kind
    height: int | None = None
    width: int | None = None
    mean: float | None = None
    std: float | None = None
    source: str | None = None
    target: str | None = None
    url: str | None = None
    member: str | None = None
    sha256: str | None = None
    location: str | None = None
    original_target: str | None = None  # what the original took for the bottleneck, where ours is another
    original_dimension: int | None = None


@dataclass(frozen=True)
class _KerasRow:
    size: int
    preprocessing: str  # the mode of its preprocess_input: tf, caffe, torch, or none where the model has its own


# Source: keras.applications, the default size of each model and the mode of each preprocess_input.
KERAS_APPLICATIONS = {
    **{f"ConvNeXt{size}": _KerasRow(224, "none") for size in ("Tiny", "Small", "Base", "Large", "XLarge")},
    **{f"DenseNet{depth}": _KerasRow(224, "torch") for depth in (121, 169, 201)},
    **{
        f"EfficientNetB{number}": _KerasRow(size, "none")
        for number, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
    },
    **{
        f"EfficientNetV2{name}": _KerasRow(size, "none")
        for name, size in {"B0": 224, "B1": 240, "B2": 260, "B3": 300, "S": 384, "M": 480, "L": 480}.items()
    },
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
    row = table.get(architecture.lower())
    if row:
        return row
    path = Path(architecture)
    if path.suffix in (".pb", ".keras", ".h5") or path.is_dir():
        if not path.exists():
            raise BackboneError(f"no such file: {architecture}. Give --architecture an existing file or a name.")
        return BackboneSpec(path.name, Kind.FILE, location=str(path))
    near = difflib.get_close_matches(architecture.lower(), table, n=3, cutoff=0.5)
    offered = (
        ", ".join(table[name].architecture for name in near) or "mobilenet_bundled, mobilenet_1.0_224, inception_v3"
    )
    raise BackboneError(
        f"unknown architecture {architecture!r}. Did you mean: {offered}? "
        f"`retrain --help` lists all; a .pb, a .keras file or a SavedModel folder works too."
    )


def from_hub(handle: str) -> BackboneSpec:
    """Return the row of a TF-Hub module, which takes [0, 1] by TF-Hub's convention.

    Source: https://www.tensorflow.org/hub/common_signatures/images
    """
    return BackboneSpec(handle, Kind.HUB, mean=0.0, std=255.0, location=handle)


def sized(spec: BackboneSpec, size: int) -> BackboneSpec:
    """Return the row for square images of another size.

    Raises:
        BackboneError: The network is made for one size.
    """
    if spec.kind is Kind.ARCHIVE or (spec.location or "").endswith(".pb"):
        made_for = f" takes {spec.width} px" if spec.width else " was frozen for one size"
        raise BackboneError(
            f"--image_size {size} does not go with {spec.architecture}, which{made_for}. It goes with "
            f"mobilenet_bundled and keras: architectures."
        )
    return replace(spec, height=size, width=size)


def names() -> list[str]:
    """Return every name of the table, sorted by kind as `--help` lists them."""
    return [row.architecture for row in _table().values()]


def _table() -> dict[str, BackboneSpec]:
    """Return lower-case name -> row."""
    rows = [
        BackboneSpec(DEFAULT, Kind.BUNDLED, 128, 128, _MINUS_ONE_TO_ONE, _MINUS_ONE_TO_ONE),
        BackboneSpec(
            "inception_v3",
            Kind.ARCHIVE,
            299,
            299,
            128.0,
            128.0,
            source="Mul",
            target="pool_3",
            url=f"{_DOWNLOADS}/image/imagenet/inception-2015-12-05.tgz",
            member="classify_image_graph_def.pb",
        ),
    ]
    for width in ("1.0", "0.75", "0.50", "0.25"):
        for size in (224, 192, 160, 128):
            rows += [_mobilenet(width, size, ""), _mobilenet(width, size, "_quantized")]
    for name, keras_row in KERAS_APPLICATIONS.items():
        in_graph = keras_row.preprocessing != "tf"
        rows.append(
            BackboneSpec(
                f"keras:{name}",
                Kind.KERAS,
                keras_row.size,
                keras_row.size,
                0.0 if in_graph else _MINUS_ONE_TO_ONE,
                1.0 if in_graph else _MINUS_ONE_TO_ONE,
            )
        )
    return {row.architecture.lower(): row for row in rows}


def _mobilenet(width: str, size: int, quantized: str) -> BackboneSpec:
    name = f"mobilenet_{width}_{size}"
    archive = f"mobilenet_v1_{width}_{size}_frozen"
    return BackboneSpec(
        name + quantized,
        Kind.ARCHIVE,
        size,
        size,
        _MINUS_ONE_TO_ONE,
        _MINUS_ONE_TO_ONE,
        source="input",
        target="MobilenetV1/Logits/AvgPool_1a/AvgPool",
        original_target="MobilenetV1/Predictions/Reshape",
        original_dimension=1001,
        url=f"{_DOWNLOADS}/{archive}.tgz",
        member="quantized_graph.pb" if quantized else "frozen_graph.pb",
        sha256=_SHA256.get(name),
    )
