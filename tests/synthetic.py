"""The codelab's data in miniature: a frozen MobileNet with the official node names, and photos of five colours.

Its weights are random, each layer normalised to what it gives for such photos: true accuracy on them is 1.0.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from conftest import photo

FLOWERS = {
    "daisy": (250, 250, 250),
    "dandelion": (20, 200, 60),
    "roses": (230, 20, 40),
    "sunflowers": (250, 220, 10),
    "tulips": (60, 40, 230),
}
_CHANNELS = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
_POOL = "MobilenetV1/Logits/AvgPool_1a/AvgPool"
_CLASSES = 1001


def codelab(folder: Path) -> Path:
    """Write models/, models/legacy/ and datasets/flowers_1100/, named as the real ones are, and return the folder."""
    weights = _weights()
    legacy = folder / "models" / "legacy"
    legacy.mkdir(parents=True)
    for size in (128, 224):
        name = f"mobilenet_0.25_{size}"
        members = {
            "frozen_graph.pb": _mobilenet(weights, size),
            "quantized_graph.pb": _mobilenet(weights, size, quantized=True),
            "labels.txt": "".join(f"class {number}\n" for number in range(_CLASSES)).encode(),
        }
        with tarfile.open(folder / "models" / f"mobilenet_v1_0.25_{size}_frozen.tgz", "w:gz") as archive:
            for member, content in members.items():
                entry = tarfile.TarInfo(f"mobilenet_v1_0.25_{size}/{member}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        (legacy / f"retrained_graph_{name}.pb").write_bytes(_mobilenet(weights, size, classes=len(FLOWERS)))
        (legacy / f"retrained_labels_{name}.txt").write_text("\n".join(FLOWERS))
    flowers = folder / "datasets" / "flowers_1100"
    for name, colour in FLOWERS.items():
        for number in range(40):
            photo(flowers / name / f"{number}.jpg", colour, (60, 45), seed=number)
    credit = [
        f"{name}/{number}.jpg CC-BY by Ann Other - https://example.org" for name in FLOWERS for number in range(40)
    ]
    (flowers / "LICENSE.txt").write_text("\n".join(credit))
    return folder


def _layers() -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Yield name, shape of the kernel and stride of each convolution of MobileNet 0.25."""
    yield "Conv2d_0", (3, 3, 3, 8), 2
    below = 8
    for number, (channels, stride) in enumerate(_CHANNELS, 1):
        yield f"Conv2d_{number}_depthwise", (3, 3, below, 1), stride
        yield f"Conv2d_{number}_pointwise", (1, 1, below, channels), 1
        below = channels


def _weights() -> dict[str, dict[str, np.ndarray]]:
    """Return for each layer its random kernel, and the normalisation that photos of the flowers' colours want."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    colours = np.array(list(FLOWERS.values()))[:, None, None] / 127.5 - 1
    x = tf.constant(colours + rng.normal(scale=0.05, size=(len(FLOWERS), 64, 64, 3)), tf.float32)
    found = {}
    for name, shape, stride in _layers():
        kernel = rng.normal(size=shape) / np.sqrt(np.prod(shape[:2]) * (1 if "depthwise" in name else shape[2]))
        convolve = tf.nn.depthwise_conv2d if "depthwise" in name else tf.nn.conv2d
        x = convolve(x, kernel.astype(np.float32), [1, stride, stride, 1], "SAME")
        mean, variance = (value.numpy() for value in tf.nn.moments(x, [0, 1, 2]))
        values = {"moving_mean": mean, "moving_variance": variance}
        values |= {"beta": rng.uniform(0, 1, mean.shape), "gamma": rng.uniform(0.5, 1.5, mean.shape)}
        found[name] = {key: value.astype(np.float32) for key, value in {"kernel": kernel, **values}.items()}
        scale = found[name]["gamma"] / np.sqrt(variance + 0.001)
        x = tf.nn.relu6((x - mean) * scale + found[name]["beta"])
    found["logits"] = {"kernel": rng.normal(size=(1, 1, 256, _CLASSES)).astype(np.float32) / 16}
    found["head"] = {"kernel": rng.normal(size=(_CLASSES, len(FLOWERS))).astype(np.float32) / 32}
    return found


def _mobilenet(
    weights: dict[str, dict[str, np.ndarray]], size: int, *, quantized: bool = False, classes: int | None = None
) -> bytes:
    """Return the frozen graph in operations of TensorFlow 1.4, with the final layer of the original for `classes`."""
    import tensorflow as tf

    raw = tf.raw_ops

    def constant(name: str, value: np.ndarray):
        if quantized and value.size > 50_000:  # as the official archive does with its two largest
            low, high = value.min(), value.max()
            rounded = np.round((value - low) / (high - low) * 255)
            return raw.Dequantize(input=tf.cast(rounded, tf.quint8), min_range=low, max_range=high, name=f"{name}/read")
        return tf.identity(tf.constant(value, name=name), name=f"{name}/read")

    def layer(name: str, stride: int, x):
        depthwise = name.endswith("depthwise")
        scope, norm = f"MobilenetV1/MobilenetV1/{name}", f"MobilenetV1/MobilenetV1/{name}/BatchNorm/batchnorm"
        kernel = constant(
            f"MobilenetV1/{name}/{'depthwise_weights' if depthwise else 'weights'}", weights[name]["kernel"]
        )
        strides = {"strides": [1, stride, stride, 1], "padding": "SAME"}
        if depthwise:
            x = raw.DepthwiseConv2dNative(input=x, filter=kernel, name=f"{scope}/depthwise", **strides)
        else:
            x = raw.Conv2D(input=x, filter=kernel, name=f"{scope}/convolution", **strides)
        beta, gamma, mean, variance = (
            constant(f"MobilenetV1/{name}/BatchNorm/{key}", weights[name][key])
            for key in ("beta", "gamma", "moving_mean", "moving_variance")
        )
        root = raw.Rsqrt(x=raw.Add(x=variance, y=tf.constant(0.001, name=f"{norm}/add/y"), name=f"{norm}/add"))
        scale = raw.Mul(x=root, y=gamma, name=f"{norm}/mul")
        shift = raw.Sub(x=beta, y=raw.Mul(x=mean, y=scale, name=f"{norm}/mul_2"), name=f"{norm}/sub")
        x = raw.Add(x=raw.Mul(x=x, y=scale, name=f"{norm}/mul_1"), y=shift, name=f"{norm}/add_1")
        return raw.Relu6(features=x, name=f"{scope}/Relu6")

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, size, size, 3], name="input")
        for name, _, stride in _layers():
            x = layer(name, stride, x)
        x = raw.AvgPool(
            value=x, ksize=[1, size // 32, size // 32, 1], strides=[1, 1, 1, 1], padding="VALID", name=_POOL
        )
        kernel = constant("MobilenetV1/Logits/Conv2d_1c_1x1/weights", weights["logits"]["kernel"])
        logits = raw.Conv2D(
            input=x,
            filter=kernel,
            strides=[1, 1, 1, 1],
            padding="SAME",
            name="MobilenetV1/Logits/Conv2d_1c_1x1/convolution",
        )
        squeezed = raw.Squeeze(input=logits, axis=[1, 2], name="MobilenetV1/Logits/SpatialSqueeze")
        flat = raw.Reshape(tensor=squeezed, shape=[-1, _CLASSES], name="MobilenetV1/Predictions/Reshape")
        if classes:
            taken = tf.compat.v1.placeholder_with_default(flat, [None, _CLASSES], "input/BottleneckInputPlaceholder")
            head = constant("final_training_ops/weights/final_weights", weights["head"]["kernel"])
            product = raw.MatMul(a=taken, b=head, name="final_training_ops/Wx_plus_b/MatMul")
            raw.Softmax(logits=product, name="final_result")
        else:
            raw.Softmax(logits=flat, name="MobilenetV1/Predictions/Softmax")
        made = tf.compat.v1.train.export_meta_graph(graph=graph, strip_default_attrs=True).graph_def
    made.versions.producer = 21
    return made.SerializeToString(deterministic=True)
