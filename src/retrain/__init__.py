"""Turns a folder of labelled photos into an image classifier by training the last layer of a frozen network."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrain.cli.console import quieten
    from retrain.config import RetrainConfig
    from retrain.evaluation.folder import evaluate
    from retrain.inference.loading import load
    from retrain.inference.prediction import label
    from retrain.pipeline import retrain

__version__ = "0.1.0"
__all__ = ["RetrainConfig", "evaluate", "label", "load", "quieten", "retrain"]

# Imported at first use: `import retrain` alone costs no numpy.
_MODULES = {
    "RetrainConfig": "retrain.config",
    "evaluate": "retrain.evaluation.folder",
    "label": "retrain.inference.prediction",
    "load": "retrain.inference.loading",
    "quieten": "retrain.cli.console",
    "retrain": "retrain.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'retrain' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
