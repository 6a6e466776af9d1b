"""Lets a process that only runs a frozen graph import a quarter of TensorFlow.

`import tensorflow` spends most of its seconds on putting together the public interface, Keras and all. A session
needs a few of the modules behind it. They are imported under a stand-in for the package; whatever else is asked of
the stand-in brings the whole package after all, so that nothing can be missing.
"""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any


class _Lean(ModuleType):
    """Stands in for the package until more of it is wanted."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get("tensorflow") is self:
            del sys.modules["tensorflow"]
        return getattr(importlib.import_module("tensorflow"), name)


def install() -> None:
    """Make a later `import tensorflow` quick; does nothing where TensorFlow is there already, or arranged otherwise."""
    found = None if "tensorflow" in sys.modules else importlib.util.find_spec("tensorflow")
    if found is None or not found.submodule_search_locations:
        return
    lean = _Lean("tensorflow")
    lean.__path__ = list(found.submodule_search_locations)
    sys.modules["tensorflow"] = lean
    try:
        from tensorflow.core.framework import graph_pb2
        from tensorflow.python.client import session
        from tensorflow.python.framework import errors, importer, ops, tensor_util
    except Exception:  # another release of TensorFlow, with other modules: take it whole
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
