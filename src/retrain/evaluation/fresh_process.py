"""Scores a model file in a fresh process, so that training state cannot hide errors."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from retrain.errors import ExportError
from retrain.files import reading_bound
from retrain.storage.folders import Folder


@dataclass(frozen=True)
class FileScores:
    """Probabilities float32 [N, C] of images, and how long one image takes in the model alone, in milliseconds."""

    probabilities: np.ndarray
    milliseconds: float


def score_file(model: Path, images: Sequence[Folder], *, encoded: bool = False) -> FileScores:
    """Return the scores of images, computed by a model file in a fresh process.

    Args:
        model: A file or folder that `formats.table` knows.
        images: Image files.
        encoded: Whether a SavedModel decodes the files itself.

    Raises:
        ExportError: The process failed; says why.
    """
    row = {"model": str(model), "encoded": encoded, "images": [str(image) for image in images]}
    request = json.dumps({**row, "max_file_size": reading_bound()})
    with TemporaryDirectory() as folder:
        out = Path(folder) / "probabilities.npy"
        # -P: a file named retrain.py in the current folder must not hide the package.
        words = [sys.executable, "-P", "-m", "retrain.cli.score", str(out)]
        # The training may still hold a part of a GPU's memory.
        env = {**os.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        done = subprocess.run(
            words, input=request, capture_output=True, encoding="utf-8", errors="replace", env=env, check=False
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ExportError(f"{model} was written, but cannot be read back: {said.removeprefix('scoring: ')}")
        return FileScores(np.load(out), json.loads(done.stdout)["milliseconds"])
