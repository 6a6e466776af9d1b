"""Scores a model file on images in a process of its own: `python -m retrain.scoring`, told what by JSON.

What an export is worth shows where nothing of the training is left: no weights in memory, no graph half built.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from retrain import console, label, run_saved_model
from retrain.classifier import runtime
from retrain.errors import ExportError

_WARM, _TIMED = 5, 30  # runs before the clock counts, and those that it counts


@dataclass(frozen=True)
class Scores:
    """Probabilities float32 [N, C] of images, and how long one image takes in the model alone, in milliseconds."""

    probabilities: np.ndarray
    milliseconds: float


def score(model: Path, images: Sequence[Path], *, encoded: bool = False) -> Scores:
    """Return what a fresh process makes of images with a model file.

    Args:
        model: A file or folder that `classifier.runtime` reads.
        images: Image files.
        encoded: Whether to give a SavedModel the files as they are, which it decodes itself.

    Raises:
        ExportError: The process failed; says why.
    """
    asked = json.dumps({"model": str(model), "encoded": encoded, "images": [str(image) for image in images]})
    with TemporaryDirectory() as folder:
        out = Path(folder) / "probabilities.npy"
        # -P: a file named retrain.py in the current folder must not hide the package.
        words = [sys.executable, "-P", "-m", "retrain.scoring", str(out)]
        # Of a GPU, the training may hold a part of the memory still.
        env = {**os.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        done = subprocess.run(
            words,
            input=asked,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=env,
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ExportError(f"{model} was written, but cannot be read back: {said.removeprefix('scoring: ')}")
        return Scores(np.load(out), json.loads(done.stdout)["milliseconds"])


def main(arguments: Sequence[str]) -> int:
    """Write the probabilities of images to the file named, print milliseconds an image, and return the exit code.

    Raises:
        RetrainError: The model or an image cannot be read.
    """
    asked = json.load(sys.stdin)
    console.quieten(verbose=False)
    model, images = Path(asked["model"]), [Path(image) for image in asked["images"]]
    rows = []
    if asked["encoded"]:
        encoded = run_saved_model.Encoded(model)
        rows = [encoded(image.read_bytes()) for image in images]
        milliseconds = _milliseconds(encoded, [image.read_bytes() for image in images[:_TIMED]])
    else:
        classifier = runtime(model).load(model, label.described(model))
        for scored in label.scores(classifier, images):
            if scored.probabilities is None:
                raise ExportError(f"{scored.path}: {scored.error}")
            rows.append(scored.probabilities)
        milliseconds = _milliseconds(
            lambda pixels: classifier(pixels[None]), [label.pixels(classifier, image) for image in images[:_TIMED]]
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
    console.run("scoring", main)
