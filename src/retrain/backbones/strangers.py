"""Tries a backbone of a stranger's in a process that may be killed, before it is frozen here."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from retrain.backbones import keras_networks
from retrain.backbones.catalogue import Kind
from retrain.backbones.loading import load_backbone
from retrain.backbones.runner import BackboneRunner
from retrain.backbones.sources import BackboneSource
from retrain.trust import judging


def judge(source: BackboneSource) -> None:
    """Refuse a backbone, not known yet, that does harm where it is frozen, converted and run.

    Raises:
        RetrainError: It is refused, or fails as it would fail in this process.
    """
    spec = source.spec
    named = spec.kind in (Kind.BUNDLED, Kind.KERAS) and keras_networks.has_own_weights(source)
    if not named and spec.sha256 is None:
        trial = judging.Trial(partial(try_backbone, source), f"backbone {source.fingerprint}", ("tensorflow_hub",))
        judging.judge(source.path, trial, content=source.content)


def try_backbone(source: BackboneSource) -> bool:
    """Freeze a backbone, convert it, and run one image through it."""
    with TemporaryDirectory() as folder:
        backbone = load_backbone(source, Path(folder))
        runner = BackboneRunner(backbone, lambda line: None)
        runner.run_one(np.full((*backbone.input.size, 3), 128, np.uint8))
    return True
