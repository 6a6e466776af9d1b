"""The table of engines: what runs a backbone, in which precisions, and what is asked of them."""

import importlib.util
from dataclasses import dataclass

from retrain.errors import UsageError

AUTO, LITERT, OPENVINO, TENSORFLOW = "auto", "litert", "openvino", "tensorflow"
FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
ENGINES = (AUTO, LITERT, OPENVINO, TENSORFLOW)
PRECISIONS = (FLOAT32, BFLOAT16, INT8)
TITLES = {LITERT: "LiteRT", OPENVINO: "OpenVINO", TENSORFLOW: "TensorFlow"}
_COMPUTES_IN = {LITERT: (FLOAT32, INT8), OPENVINO: PRECISIONS, TENSORFLOW: (FLOAT32,)}


@dataclass(frozen=True)
class EngineRequest:
    """What the user asks for: an engine, `AUTO` for the fastest, and the precision that it computes in.

    Raises:
        UsageError: The engine does not compute in this precision.
    """

    engine: str = AUTO
    precision: str = FLOAT32

    def __post_init__(self) -> None:
        if not self.names:
            able = " or ".join(name for name, precisions in _COMPUTES_IN.items() if self.precision in precisions)
            raise UsageError(
                f"--engine {self.engine} does not compute in {self.precision}. Give {able}, or leave it out."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Return the engines that may serve; the first is the one for whom nothing speaks or has been measured yet.

        TensorFlow on a processor is slower than OpenVINO, and takes seconds to start: it is measured where that lacks.
        """
        able = tuple(name for name, precisions in _COMPUTES_IN.items() if self.precision in precisions)
        if self.engine != AUTO:
            return tuple(name for name in able if name == self.engine)
        return tuple(name for name in able if name != TENSORFLOW or not is_installed(OPENVINO))


def is_installed(engine: str) -> bool:
    """Return whether an engine's package is there; found without importing it."""
    return engine != OPENVINO or importlib.util.find_spec("openvino") is not None
