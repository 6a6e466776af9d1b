"""Scores one model file on images: the child process of `evaluation.fresh_process`, told what by JSON."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from retrain.cli import console
from retrain.errors import ExportError
from retrain.formats import saved_model
from retrain.formats.table import format_of
from retrain.inference import loading as model_loading
from retrain.inference import prediction

_WARM, _TIMED = 5, 30  # runs before the clock counts, and those that it counts


def main(arguments: Sequence[str]) -> int:
    """Write the probabilities of images to the file named, print milliseconds an image, and return the exit code.

    Raises:
        RetrainError: The model or an image cannot be read.
    """
    request = json.load(sys.stdin)
    console.quieten(verbose=False)
    model, images = Path(request["model"]), [Path(image) for image in request["images"]]
    rows = []
    if request["encoded"]:
        classify = saved_model.ImageFileModel(model)
        rows = [classify(image.read_bytes()) for image in images]
        milliseconds = _milliseconds(classify, [image.read_bytes() for image in images[:_TIMED]])
    else:
        classifier = format_of(model).load(model, model_loading.describe(model))
        for scored in prediction.predict_probabilities(classifier, images):
            if scored.probabilities is None:
                raise ExportError(f"{scored.path}: {scored.error}")
            rows.append(scored.probabilities)
        milliseconds = _milliseconds(
            lambda pixels: classifier(pixels[None]), [prediction.pixels(classifier, image) for image in images[:_TIMED]]
        )
    np.save(arguments[0], np.stack(rows))
    sys.stdout.write(json.dumps({"milliseconds": milliseconds}))
    return console.DONE


def _milliseconds(run: Callable[..., object], given: Sequence[object]) -> float:
    """Return the median time of a run, in milliseconds."""
    times = []
    for number in range(_WARM + _TIMED):
        started = time.perf_counter()
        run(given[number % len(given)])
        times.append(time.perf_counter() - started)
    return float(np.median(times[_WARM:]) * 1000)


if __name__ == "__main__":
    console.run("score", main)
