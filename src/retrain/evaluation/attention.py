"""Where a network looked: which places of a photo spoke for the class that was predicted, as a picture.

Where bottlenecks are the mean of the last feature maps over all places, the head can be asked about each place alone:
the class activation map of Zhou et al., "Learning deep features for discriminative localization", CVPR 2016. Behind
hidden layers, the gradient of the class's logit takes the place of its weights (Selvaraju et al., "Grad-CAM", ICCV
2017). Of other networks, squares of the photo are covered one after another (Zeiler and Fergus, "Visualizing and
understanding convolutional networks", ECCV 2014).
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from retrain.evaluation import thumbnails
from retrain.head import Head
from retrain.preprocessing import CROP, LETTERBOX, PADDING, InputSpec

SQUARES = 5  # that are covered, in a row of a photo
RECIPE = b"attention 1"  # part of the keys by which pictures are kept: change it when they change
MAPS = (
    "Where the network looked: a class activation map, the weights of the predicted class on the last feature map. "
    "Bright places spoke for that class."
)
GRADIENTS = (
    "Where the network looked: a class activation map of the last feature map, weighted by gradients (Grad-CAM). "
    "Bright places spoke for the predicted class."
)
OCCLUSION = (
    "Where the network looked: squares of the photo were covered in turn. Bright are those whose covering cost the "
    "predicted class most."
)
_FLAT = 1e-6  # difference between the brightest and the darkest place that is none
# Matplotlib's viridis at equal distances (Smith and van der Walt, 2015): lightness grows evenly.
_COLOURS = np.array(
    [(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
     (170, 220, 50), (253, 231, 37)],
    np.float32,
)  # fmt: skip
_GREYED, _COVERED = 0.6, 0.55  # shares of grey below the colours, and of the colours


@dataclass(frozen=True)
class Direction:
    """What speaks for a class near one bottleneck: `weights` float32 [D] and `offset`, of a logit above the mean one.

    Adding the same numbers to the weights of all classes changes no probability; it does not change this either.
    """

    weights: np.ndarray
    offset: float

    @classmethod
    def of(cls, head: Head, vector: np.ndarray, class_id: int) -> "Direction":
        """Return the gradient of a class's logit at a bottleneck, float32 [D]: for one layer, the class's weights."""
        hidden, active = vector, []
        for layer in head.layers[:-1]:
            hidden = np.maximum(hidden @ layer.weights + layer.biases, 0)
            active.append(hidden > 0)
        last = head.last
        weights = last.weights[:, class_id] - last.weights.mean(axis=1)
        logit = float(hidden @ weights + last.biases[class_id] - last.biases.mean())
        for layer, is_active in zip(reversed(head.layers[:-1]), reversed(active), strict=True):
            weights = layer.weights @ (weights * is_active)
        return cls(weights.astype(np.float32), logit - float(vector @ weights))

    def on(self, maps: np.ndarray) -> np.ndarray:
        """Return what each place of feature maps, [h, w, C], says for the class, float32 [h, w]: their mean is all."""
        said: np.ndarray = maps.astype(np.float32) @ self.weights + np.float32(self.offset)
        return said


def covered(pixels: np.ndarray) -> list[np.ndarray]:
    """Return a photo uint8 [H, W, 3] with each of `SQUARES` x `SQUARES` squares grey, row after row."""
    (height, width), pictures = pixels.shape[:2], []
    rows, columns = (np.linspace(0, side, SQUARES + 1).round().astype(int) for side in (height, width))
    for top, bottom in zip(rows[:-1], rows[1:], strict=True):
        for left, right in zip(columns[:-1], columns[1:], strict=True):
            picture = pixels.copy()
            picture[top:bottom, left:right] = PADDING
            pictures.append(picture)
    return pictures


def costs(head: Head, vectors: np.ndarray, class_id: int) -> np.ndarray:
    """Return what covering each square costs a class, float32 [SQUARES, SQUARES], in logits above their mean.

    Args:
        head: Of the network.
        vectors: Bottlenecks float32 [1 + SQUARES ** 2, D], of the photo as it is and then of `covered`.
        class_id: The class.
    """
    logits = head.logits(vectors)
    above = logits[:, class_id] - logits.mean(axis=1)
    lost: np.ndarray = above[0] - above[1:]
    return lost.reshape(SQUARES, SQUARES)


def picture(thumbnail: bytes, said: np.ndarray, spec: InputSpec) -> bytes:
    """Return a thumbnail, a JPEG, with the places coloured that spoke for a class, from `said`, float32 [h, w]."""
    photo = Image.open(io.BytesIO(thumbnail), formats=["JPEG"]).convert("RGB")
    heat = placed(_between_0_and_1(said), photo.size, spec)
    pixels = np.asarray(photo, np.float32)
    pixels = pixels + _GREYED * (pixels.mean(axis=2, keepdims=True) - pixels)
    at = heat * (len(_COLOURS) - 1)
    channels = [np.interp(at, np.arange(len(_COLOURS)), channel) for channel in _COLOURS.T]
    mixed = pixels + _COVERED * (np.stack(channels, axis=2) - pixels)
    return thumbnails.encode(Image.fromarray(np.clip(mixed.round(), 0, 255).astype(np.uint8)))


def placed(heat: np.ndarray, size: tuple[int, int], spec: InputSpec) -> np.ndarray:
    """Return what was said of a network's input, float32 [h, w], where it lies in a whole photo.

    Args:
        heat: 0 to 1.
        size: Width and height of the photo.
        spec: How photos are fitted into the input.

    Returns:
        float32 [height, width], 0 where the network saw nothing.
    """
    sides = tuple(map(float, size))
    if spec.keep_aspect_ratio in (LETTERBOX, CROP):
        ratios = [side / inner for side, inner in zip(size, reversed(spec.size), strict=True)]
        scale = max(ratios) if spec.keep_aspect_ratio == LETTERBOX else min(ratios)
        sides = tuple(inner * scale for inner in reversed(spec.size))
    across, down = (max(1, round(side)) for side in sides)
    seen = Image.fromarray(heat.astype(np.float32)).resize((across, down), Image.Resampling.BICUBIC)
    canvas = Image.new("F", size)
    canvas.paste(seen, ((size[0] - across) // 2, (size[1] - down) // 2))
    shares: np.ndarray = np.clip(np.asarray(canvas), 0, 1)
    return shares


def _between_0_and_1(said: np.ndarray) -> np.ndarray:
    """Return 1 for the place that spoke most for a class, and 0 for those against it, if any, or else the least."""
    high, low = float(said.max()), float(said.min())
    if high - low <= _FLAT:
        return np.zeros_like(said)
    low = max(low, 0.0) if high > 0 else low
    heat: np.ndarray = np.clip((said - low) / max(high - low, _FLAT), 0, 1)
    return heat
