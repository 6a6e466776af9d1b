"""Runs LiteRT models in OpenVINO: compiled once, with a stream for each core and a request for each thread."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones.engines import BFLOAT16, FLOAT32, INT8
from retrain.errors import BackboneError, first_line
from retrain.preprocessing import InputSpec

# Images that one thread runs at once. Weights are read once for all of them, which counts where arithmetic is fast:
# EfficientNet-Lite0 took 14 % less time in bfloat16 and 22 % less in int8 with four, and no less in float32.
_AT_ONCE = {FLOAT32: 1, BFLOAT16: 4, INT8: 4}


class OpenVINONetwork:
    """A compiled network, from the pixels of `at_once` images to their vectors; `runner` is for one thread each."""

    def __init__(self, model: Path, spec: InputSpec, *, precision: str, threads: int) -> None:
        """Compile a network.

        Args:
            model: A LiteRT model, float32 or int8.
            spec: What goes in; a model of any size gets its size from here.
            precision: Of `engines.PRECISIONS`, what it computes in.
            threads: How many will run it at once.

        Raises:
            BackboneError: OpenVINO is not installed, cannot run the network, or not in this precision here.
        """
        self.at_once = _AT_ONCE[precision]
        try:
            import openvino
        except ImportError as error:
            raise BackboneError(
                "OpenVINO is not installed. Run `pip install openvino`, or compute the features anew with "
                "--engine litert."
            ) from error
        core = openvino.Core()
        has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == BFLOAT16 and not has_bfloat16:
            raise BackboneError("this processor does not compute in bfloat16. Give --precision float32 or int8.")
        # What is not quantised in an int8 network is faster in bfloat16, and still more precise than its neighbours.
        hint = {FLOAT32: "f32", BFLOAT16: "bf16", INT8: "bf16" if has_bfloat16 else "f32"}[precision]
        properties = {
            "INFERENCE_PRECISION_HINT": hint,
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",  # another process may have pinned its threads to the same cores
        }
        try:
            network = core.read_model(str(model))
            network.reshape([self.at_once, *spec.size, 3])
            self._compiled = core.compile_model(network, "CPU", properties)
        except RuntimeError as error:
            raise BackboneError(f"OpenVINO cannot run this backbone ({first_line(error)[:120]}).") from error
        mean, std = spec.affine
        self._mean, self._factor = mean, (1 / std).astype(np.float32)

    def runner(self) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """Return a function for one thread, from images uint8 [H, W, 3] to a vector float32 [D] for each."""
        request = self._compiled.create_infer_request()
        inputs: Any = request.get_input_tensor().data

        def run(images: Sequence[np.ndarray]) -> list[np.ndarray]:
            vectors: list[np.ndarray] = []
            for start in range(0, len(images), self.at_once):
                some = images[start : start + self.at_once]
                for pixels, place in zip(some, inputs, strict=False):  # of a last, small batch, some are left over
                    self._set(place, pixels)
                request.infer()
                found = request.get_output_tensor().data.reshape(self.at_once, -1)[: len(some)]
                vectors += list(found.copy())
            return vectors

        return run

    def _set(self, place: np.ndarray, pixels: np.ndarray) -> None:
        """Write an image where the network takes it, scaled unless it takes pixels."""
        if place.dtype == np.uint8:
            place[:] = pixels
        else:
            np.subtract(pixels, self._mean, out=place)
            np.multiply(place, self._factor, out=place)
