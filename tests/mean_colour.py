"""A runner in the place of a network, for tests of what computes bottlenecks."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from retrain.backbones.loading import Backbone
from retrain.preprocessing import InputSpec


@dataclass
class MeanColour:
    """A runner whose bottleneck is the mean colour, and which counts the images that it ran."""

    batched: bool = False
    backbone: Backbone = Backbone("mean colour", Path("unused"), InputSpec("input", 8, 8, 0, 1), "mean", 3)
    threads: int = 3
    ran: list = field(default_factory=list)
    at_once: int = 1

    def runner_of_several(self):
        owner = []

        def run(images):
            owner.append(threading.get_ident())
            assert len(set(owner)) == 1, "one runner served two threads"
            return self.run_batch(np.stack(images))

        return run

    def run_batch(self, pixels):
        self.ran.append(len(pixels))
        return pixels.mean(axis=(1, 2)).astype(np.float32)

    @property
    def count(self):
        return sum(self.ran)
