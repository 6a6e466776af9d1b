"""What every measurement uses: a row of the table, where the data is, and the clock."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones import catalogue, families
from retrain.backbones.loading import Backbone, load_backbone
from retrain.backbones.runner import BackboneRunner
from retrain.backbones.sources import BackboneSource, WeightsRequest
from retrain.data.dataset import scan
from retrain.errors import RetrainError

LITE = "efficientnet_lite0"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, on what, the figure, what it must and what it should reach."""

    what: str
    on: str
    value: float
    unit: str
    must: float
    aim: float
    detail: str = ""

    @property
    def verdict(self) -> str:
        """Return whether the figure reaches its marks; a ratio over the rival or a share wants to be large."""
        large = self.must < self.aim
        reaches = self.value.__ge__ if large else self.value.__le__
        return "aim" if reaches(self.aim) else "must" if reaches(self.must) else "SHORT"


@dataclass(frozen=True)
class Bench:
    """Where the data is, where to work, and whether to be quick."""

    data: Path
    folder: Path
    quick: bool

    def source(self, name: str, **options: Any) -> BackboneSource:
        """Return where a backbone is from, its weights random where they are Keras'."""
        weights = catalogue.RANDOM if name.startswith("keras:") else None
        spec = replace(catalogue.find(name), **options)
        return families.locate(spec, WeightsRequest(self.data / "models", weights))

    def backbone(self, name: str, **options: Any) -> Backbone:
        """Return a backbone as a frozen graph."""
        source = self.source(name, **options)
        return load_backbone(source, self.folder / "backbone" / source.folder_name)

    def photos(self, name: str) -> Path:
        """Return an image folder of the test data."""
        return self.data / "datasets" / name

    def train_flowers(self, steps: int) -> None:
        """Run the command on photos of flowers."""
        command(
            self, "retrain", "--image_dir", self.photos("flowers_1100"), "--architecture", "mobilenet_0.25_128",
            "--model_dir", self.data / "models", "--how_many_training_steps", steps,
        )  # fmt: skip


def engine_of(backbone: Backbone) -> BackboneRunner:
    """Return the engine of a backbone, its LiteRT model converted already."""
    engine = BackboneRunner(backbone, print)
    engine.run_one(np.zeros((*backbone.input.size, 3), np.uint8))
    return engine


def photo_paths(folder: Path, most: int | None) -> list[str]:
    """Return the paths of a folder's JPEG photos within it, `most` of them spread over all of it at the most."""
    paths = [example.path for example in scan(folder).examples if example.path.endswith(".jpg")]
    return paths[:: max(1, len(paths) // most)][:most] if most else paths


def command(
    bench: Bench, *words: object, listed: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in the working folder and return how it ended, with what it printed.

    Args:
        bench: Where to work.
        words: The command and its arguments.
        listed: What it reads on standard input.
        check: Whether it must end well.

    Raises:
        RetrainError: It must, and does not.
    """
    script = Path(sys.executable).with_name(str(words[0]))
    done = subprocess.run(
        [str(script), *map(str, words[1:])], cwd=bench.folder, input=listed, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise RetrainError(
            f"`{words[0]}` ended with exit code {done.returncode} in the middle of a measurement: {said}"
        )
    return done


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def best_seconds(call: Callable[[], object], times: int = 3) -> float:
    """Return the seconds of the fastest of some calls."""
    return min(seconds_of(call) for _ in range(times))
