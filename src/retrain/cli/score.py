"""Scores a model file on images, as the child process that `evaluation.fresh_process` sends a JSON request to."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from retrain.cli import console, lean_tensorflow
from retrain.data.image_files import read_image
from retrain.errors import ExportError
from retrain.files import bound_reading
from retrain.formats import saved_model
from retrain.formats.table import format_of
from retrain.inference import loading as model_loading
from retrain.inference import prediction
from retrain.storage.folders import Folder, folder

_WARM_UP_RUNS, _TIMED_RUNS = 5, 30


def main(arguments: Sequence[str]) -> int:
    """Save the probabilities to the .npy file that is named, print the milliseconds per image as JSON, and return 0."""
    request = json.load(sys.stdin)
    bound_reading(request["max_file_size"])
    console.quieten(verbose=False)
    score = _score_encoded if request["encoded"] else _score
    probabilities, milliseconds = score(Path(request["model"]), [folder(image) for image in request["images"]])
    np.save(arguments[0], probabilities)
    sys.stdout.write(json.dumps({"milliseconds": milliseconds}))
    return console.DONE


def _score(model: Path, images: Sequence[Folder]) -> tuple[np.ndarray, float]:
    """Return the probabilities float32 [N, C] of decoded images, and the milliseconds per image."""
    lean_tensorflow.install_for(model)
    classifier = format_of(model).load(model, model_loading.describe(model))
    rows = []
    for scored in prediction.predict_probabilities(classifier, images):
        if scored.probabilities is None:
            raise ExportError(f"{scored.path}: {scored.error}")
        rows.append(scored.probabilities)
    batches = [prediction.pixels(classifier, read_image(image))[None] for image in images[:_TIMED_RUNS]]
    return np.stack(rows), _median_milliseconds(classifier, batches)


def _score_encoded(model: Path, images: Sequence[Folder]) -> tuple[np.ndarray, float]:
    """Return the same for a SavedModel that decodes the image files itself."""
    classify = saved_model.ImageFileModel(model)
    rows = [classify(read_image(image)) for image in images]
    samples = [read_image(image) for image in images[:_TIMED_RUNS]]
    return np.stack(rows), _median_milliseconds(classify, samples)


def _median_milliseconds(run: Callable[..., object], samples: Sequence[object]) -> float:
    times = []
    for number in range(_WARM_UP_RUNS + _TIMED_RUNS):
        started = time.perf_counter()
        run(samples[number % len(samples)])
        times.append(time.perf_counter() - started)
    return float(np.median(times[_WARM_UP_RUNS:]) * 1000)


if __name__ == "__main__":
    console.run("score", main)
