"""Runs LiteRT models in OpenVINO: compiled once, with a stream for each core and a request for each thread."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones.engines import BFLOAT16, FLOAT32, INT8
from retrain.errors import BackboneError, first_line
from retrain.preprocessing import InputSpec


class OpenVINONetwork:
    """A compiled network, from the pixels of one image to its vector; `runner` is for one thread each."""

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
            if network.input().partial_shape.is_dynamic:
                network.reshape([1, *spec.size, 3])
            self._compiled = core.compile_model(network, "CPU", properties)
        except RuntimeError as error:
            raise BackboneError(f"OpenVINO cannot run this backbone ({first_line(error)[:120]}).") from error
        mean, std = spec.affine
        self._mean, self._factor = mean, (1 / std).astype(np.float32)

    def runner(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function for one thread, from pixels uint8 [H, W, 3] to the vector float32 [D]."""
        request = self._compiled.create_infer_request()
        image: Any = request.get_input_tensor().data[0]

        def run(pixels: np.ndarray) -> np.ndarray:
            if image.dtype == np.uint8:
                image[:] = pixels
            else:
                np.subtract(pixels, self._mean, out=image)
                np.multiply(image, self._factor, out=image)
            request.infer()
            vector: np.ndarray = request.get_output_tensor().data.reshape(-1).copy()
            return vector

        return run
