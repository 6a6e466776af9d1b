"""The input of an image network: `InputSpec`, one value from training to serving, and the scaling of pixels."""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the flags read the table of backbones, and need not wait for numpy
    import numpy as np

Scaling = float | tuple[float, ...]  # one number for all channels, or three: for red, green and blue
LARGEST_SIDE = 10_000  # px
LETTERBOX, CROP = "letterbox", "crop"  # how photos may keep their aspect ratio
ASPECT_MODES = (LETTERBOX, CROP)
PADDING = 127  # the pixel of a letterbox's bars: mid grey, about 0 once scaled
_FAR = 1e9  # what float32 computes with, squared and as a reciprocal


@dataclass(frozen=True)
class InputSpec:
    """The input of a network: float32 [N, height, width, 3] of `(pixel - mean) / std`, RGB pixels 0 to 255.

    `node` is the graph node, layer or signature argument that takes it. None stands for what is not known. Photos are
    squashed to height and width, as the original did, unless `keep_aspect_ratio` is `letterbox` (all of the photo, grey
    bars at two sides) or `crop` (its middle). A value that makes no sense is a ValueError, wherever it comes from.
    """

    node: str | None = None
    height: int | None = None
    width: int | None = None
    mean: Scaling | None = None
    std: Scaling | None = None
    keep_aspect_ratio: str | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value: Any = getattr(self, name)
            if isinstance(value, list):  # as JSON has it
                object.__setattr__(self, name, tuple(value))
            if value is not None and (problem := scaling_problem(getattr(self, name), divides=name == "std")):
                raise ValueError(f"input_{name} is {value}; {problem}")
        for name, side in (("height", self.height), ("width", self.width)):
            if side is not None and not (isinstance(side, int) and 0 < side <= LARGEST_SIDE):
                raise ValueError(f"input_{name} is {side!r}; it must be 1 to {LARGEST_SIDE} px")
        if not isinstance(self.node, str | None):
            raise ValueError(f"input is {self.node!r}; it must be a name")
        if self.keep_aspect_ratio not in (None, *ASPECT_MODES):
            raise ValueError(f"keep_aspect_ratio is {self.keep_aspect_ratio!r}; it must be {' or '.join(ASPECT_MODES)}")

    def filled_from(self, other: "InputSpec") -> "InputSpec":
        """Return this spec, with the other's value wherever this one has none."""
        missing = [field.name for field in fields(self) if getattr(self, field.name) is None]
        return replace(self, **{name: getattr(other, name) for name in missing})

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width, 0 for what is not known."""
        return self.height or 0, self.width or 0

    @property
    def affine(self) -> "tuple[np.ndarray, np.ndarray]":
        """Return mean and std as float32 [] or [3], 0 and 1 where they are not known."""
        import numpy as np

        return np.float32(self.mean or 0.0), np.float32(self.std or 1.0)  # type: ignore[arg-type, return-value]

    def scale(self, pixels: "np.ndarray") -> "np.ndarray":
        """Return float32 `(pixel - mean) / std` of pixels uint8."""
        import numpy as np

        mean, std = self.affine
        values: np.ndarray = pixels.astype(np.float32) - mean
        values /= std
        return values

    def __str__(self) -> str:
        """Return one line: node, size and scaling, "?" for what is not known."""

        def known(value: str | float | None) -> str:
            return "?" if value is None else str(value)

        mean, std = ("?" if value is None else scaling_text(value) for value in (self.mean, self.std))
        size = f"{known(self.width)} x {known(self.height)} px"
        kept = f" {self.keep_aspect_ratio}" if self.keep_aspect_ratio else ""
        return f"{known(self.node)}, {size}{kept}, (pixel - {mean}) / {std}"


def scaling_problem(value: Any, *, divides: bool) -> str | None:
    """Return what is wrong with a mean or, where pixels are divided by it, a std; None for nothing."""
    numbers = value if isinstance(value, tuple) else (value,)
    if isinstance(value, tuple) and len(value) != 3 or not all(isinstance(number, int | float) for number in numbers):
        return "it must be one number, or three for red, green and blue"
    if not all(abs(number) < _FAR for number in numbers):  # nor is NaN
        return "it must be finite"
    close = any(abs(number) < 1 / _FAR for number in numbers)
    return "pixels are divided by it; 1 leaves them as they are" if divides and close else None


def scaling_text(value: Scaling) -> str:
    """Return a mean or std as the flags take it: "127.5", "123.675,116.28,103.53"."""
    return ",".join(f"{number:g}" for number in (value if isinstance(value, tuple) else (value,)))


# What a network that begins with x * factor + offset takes: (factor, offset) -> mean, std.
_FROM_SMALL_RANGES = {
    (2.0, -1.0): (0.0, 255.0),  # from [0, 1] to [-1, 1]
    (255.0, 0.0): (0.0, 255.0),  # from [0, 1] to pixels
    (0.5, 0.5): (127.5, 127.5),  # from [-1, 1] to [0, 1]
    (127.5, 127.5): (127.5, 127.5),  # from [-1, 1] to pixels
}
_SPAN, _REACH = (0.9, 8.0), 8.0  # of what networks work on: [0, 1], [-1, 1], or pixels standardised channel by channel


def range_before(factor: Any, offset: Any) -> tuple[float, float] | None:
    """Return mean and std of the pixels that a network takes which begins with `x * factor + offset`.

    Both are numbers, or arrays of one for each channel. None: no range of pixels, or more than one, would make sense.
    """
    import numpy as np

    factors, offsets = np.asarray(factor, np.float64).reshape(-1), np.asarray(offset, np.float64).reshape(-1)
    spans, ends = factors * 255, np.concatenate([offsets + 0 * factors, offsets + 255 * factors])
    if (_SPAN[0] < spans).all() and (spans < _SPAN[1]).all() and (np.abs(ends) < _REACH).all():
        return 0.0, 1.0
    for (known_factor, known_offset), scaling in _FROM_SMALL_RANGES.items():
        near = 0.02 * known_factor
        if np.allclose(factors, known_factor, 0, near) and np.allclose(offsets, known_offset, 0, near):
            return scaling
    return None
