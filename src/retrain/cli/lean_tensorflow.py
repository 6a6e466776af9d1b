"""Lets a command that only runs a frozen graph import a quarter of TensorFlow, which is more than twice as fast.

`import tensorflow` spends most of its seconds on building the public interface, Keras included. A session needs a
few of the modules behind it. They are imported under a stand-in for the package; any other attribute of the stand-in
imports the whole package, so that nothing is missing. For commands alone: a host program keeps its own TensorFlow.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class _Lean(ModuleType):
    """Stands in for the package until another of its attributes is needed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get("tensorflow") is self:
            del sys.modules["tensorflow"]
        return getattr(importlib.import_module("tensorflow"), name)


def install_for(model: Path) -> None:
    """Make a later `import tensorflow` quick if `model` is a frozen graph.

    Raises:
        GraphError: No such model.
    """
    from retrain.formats.table import FROZEN_GRAPH, format_of

    if format_of(model) is FROZEN_GRAPH:
        install()


def install() -> None:
    """Make a later `import tensorflow` quick, unless it is missing, imported already or not a regular package."""
    spec = None if "tensorflow" in sys.modules else importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        return
    lean = _Lean("tensorflow")
    lean.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = lean
    try:
        from tensorflow.core.framework import graph_pb2
        from tensorflow.python.client import session
        from tensorflow.python.framework import errors, importer, ops, tensor_util
    except Exception:  # another release of TensorFlow with other modules: import it whole
        del sys.modules["tensorflow"]
        return
    v1 = SimpleNamespace(GraphDef=graph_pb2.GraphDef, Session=session.Session)
    vars(lean).update(
        compat=SimpleNamespace(v1=v1),
        errors=errors,
        Graph=ops.Graph,
        graph_util=SimpleNamespace(import_graph_def=importer.import_graph_def),
        make_ndarray=tensor_util.MakeNdarray,
    )
