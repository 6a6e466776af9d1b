"""The input of an image network: `InputSpec`, one value from training to serving, and the scaling of pixels."""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the flags read the table of backbones, and need not wait for numpy
    import numpy as np


@dataclass(frozen=True)
class InputSpec:
    """The input of a network: float32 [N, height, width, 3] of `(pixel - mean) / std`, RGB pixels 0 to 255.

    `node` is the graph node, layer or signature argument that takes it. None stands for what is not known.
    """

    node: str | None = None
    height: int | None = None
    width: int | None = None
    mean: float | None = None
    std: float | None = None

    def filled_from(self, other: "InputSpec") -> "InputSpec":
        """Return this spec, with the other's value wherever this one has none."""
        missing = [field.name for field in fields(self) if getattr(self, field.name) is None]
        return replace(self, **{name: getattr(other, name) for name in missing})

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width, 0 for what is not known."""
        return self.height or 0, self.width or 0

    def scale(self, pixels: "np.ndarray") -> "np.ndarray":
        """Return float32 `(pixel - mean) / std` of pixels uint8."""
        import numpy as np

        values: np.ndarray = pixels.astype(np.float32) - np.float32(self.mean or 0.0)
        values /= np.float32(self.std or 1.0)
        return values

    def __str__(self) -> str:
        """Return one line: node, size and scaling, "?" for what is not known."""

        def known(value: float | str | None) -> str:
            return "?" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

        return (
            f"{known(self.node)}, {known(self.width)} x {known(self.height)} px, "
            f"(pixel - {known(self.mean)}) / {known(self.std)}"
        )
