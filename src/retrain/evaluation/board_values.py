"""What TensorBoard's pages show, as the values of their plugins: pictures, texts, curves, layouts, descriptions.

They are built by hand from protocol buffers: the plugins' own `summary` modules import TensorFlow.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from retrain.errors import printable

Value = Any  # tensorboard.compat.proto.summary_pb2.Summary.Value, which only the functions below import
THRESHOLDS = 101  # of a precision-recall curve: at each hundredth of a score
_LAYOUT_TAG = "custom_scalars__config__"
# The end of a tag -> its name on the page, and what it is, in Markdown.
_DESCRIPTIONS = {
    "accuracy_1": (
        "accuracy",
        "Share of photos that are given their class: in `train` of each step's batch, before the step; in `validation` "
        "of a sample of the validation photos, after it.",
    ),
    "cross_entropy_1": (
        "cross entropy",
        "Mean of minus the logarithm of the score of each photo's own class, in nats: what training makes small. "
        "Of the same photos as the accuracy.",
    ),
    "weights/summaries/histogram": ("weights", "The weights of the last layer, one for each feature and class."),
    "biases/summaries/histogram": ("biases", "The biases of the last layer, one for each class."),
    "Wx_plus_b/pre_activations": ("logits", "What the last layer gives for the batch of a step, before the softmax."),
    "activations": ("scores", "The scores of all classes for the batch of a step, after the softmax."),
    "mean_1": ("mean", "The mean of the numbers that the last layer has."),
    "stddev_1": ("standard deviation", "How far these numbers of the last layer are spread around their mean."),
    "max_1": ("largest", "The largest of these numbers of the last layer."),
    "min_1": ("smallest", "The smallest of these numbers of the last layer."),
}


def describe(value: Value) -> None:
    """Say what a number or a histogram of a training is, if its tag is one that is known."""
    from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR
    from tensorboard.plugins.histogram import metadata

    for end, (name, description) in _DESCRIPTIONS.items():
        if value.tag == end or value.tag.endswith(f"/{end}"):
            if value.WhichOneof("value") == "histo":
                value.metadata.CopyFrom(metadata.create_summary_metadata(name, description))
                value.metadata.data_class = DATA_CLASS_TENSOR
            else:
                value.metadata.CopyFrom(_of_scalar(name, description))
            return


def scalar(tag: str, figure: float, *, name: str, description: str) -> Value:
    """Return a single point of the scalars page, under a name of its own, described in Markdown."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary.Value(tag=tag, simple_value=figure, metadata=_of_scalar(name, description))


def picture(tag: str, encoded: bytes, *, name: str, description: str) -> Value:
    """Return a picture of the images page, from the bytes of a PNG or a JPEG."""
    from tensorboard.plugins.image import metadata

    with Image.open(BytesIO(encoded), formats=["PNG", "JPEG"]) as opened:
        content = [*(str(side).encode() for side in opened.size), encoded]
    return _tensor(tag, metadata.create_summary_metadata(printable(name), description), content)


def text(tag: str, markdown: str, *, name: str, description: str) -> Value:
    """Return a text of the text page, in Markdown."""
    from tensorboard.plugins.text import metadata

    return _tensor(tag, metadata.create_summary_metadata(name, description), markdown)


def pr_curve(tag: str, scores: np.ndarray, is_true: np.ndarray, *, name: str, description: str) -> Value:
    """Return the precision-recall curve of a class: its scores float32 [n], and which photos are of it, bool [n]."""
    from tensorboard.plugins.pr_curve import metadata

    plugin = metadata.create_summary_metadata(printable(name), description, THRESHOLDS)
    return _tensor(tag, plugin, precision_recall(scores, is_true))


def precision_recall(scores: np.ndarray, is_true: np.ndarray) -> np.ndarray:
    """Return the figures of a precision-recall curve, float32 [6, THRESHOLDS].

    True positives, false positives, true negatives, false negatives, precision and recall, at rising thresholds from 0
    to 1; a photo is positive from its score on. Precision is 0 where nothing is positive, which no page shows.

    Args:
        scores: Of one class, float32 [n], 0 to 1.
        is_true: Which photos are of that class, bool [n].
    """
    thresholds = (np.arange(THRESHOLDS) / (THRESHOLDS - 1)).astype(np.float32)
    reached = np.searchsorted(thresholds, scores, side="right") - 1  # the last threshold of each photo
    hits = np.bincount(reached[is_true], minlength=THRESHOLDS)
    others = np.bincount(reached[~is_true], minlength=THRESHOLDS)
    true_positive, false_positive = (np.cumsum(counts[::-1])[::-1] for counts in (hits, others))
    positives = true_positive + false_positive
    rows = (
        true_positive,
        false_positive,
        others.sum() - false_positive,
        hits.sum() - true_positive,
        true_positive / np.maximum(positives, 1),
        true_positive / max(1, hits.sum()),
    )
    return np.stack(rows).astype(np.float32)


def layout(charts: Mapping[str, Sequence[str]], *, title: str) -> Value:
    """Return the layout of the custom scalars page: charts, each of the tags that it shows of all runs."""
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    rows = [
        layout_pb2.Chart(title=chart, multiline=layout_pb2.MultilineChartContent(tag=[f"^{tag}$" for tag in tags]))
        for chart, tags in charts.items()
    ]
    made = layout_pb2.Layout(category=[layout_pb2.Category(title=title, chart=rows)])
    return _tensor(_LAYOUT_TAG, metadata.create_summary_metadata(), made.SerializeToString(deterministic=True))


def escaped(name: str) -> str:
    """Return a name as it stands in Markdown, whatever signs it has."""
    return "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in printable(name))


def _of_scalar(name: str, description: str) -> Any:
    """Return what describes a scalar: TensorBoard's fast loader passes over it without its class of data."""
    from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_SCALAR
    from tensorboard.plugins.scalar import metadata

    described = metadata.create_summary_metadata(name, description)
    described.data_class = DATA_CLASS_SCALAR
    return described


def _tensor(tag: str, metadata: Any, content: Any) -> Value:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.util.tensor_util import make_tensor_proto

    return Summary.Value(tag=printable(tag), metadata=metadata, tensor=make_tensor_proto(content))
