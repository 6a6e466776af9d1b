"""The rules of the house: layers, no global settings, no TensorFlow before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "src" / "retrain"
LAYERS = [
    {
        "attribution",
        "errors",
        "files",
        "exportable",
        "formats",
        "head",
        "lean_tensorflow",
        "metadata",
        "recipes",
        "workers",
    },
    {
        "architectures",
        "console",
        "dataset",
        "devices",
        "distortions",
        "download",
        "evaluation",
        "graphs",
        "image",
        "legacy_cache",
        "litert",
        "sorting",
        "tflite_metadata",
    },
    {
        "checkpoint",
        "config",
        "inputs",
        "keras_models",
        "quantize",
        "recognition",
        "sampling",
        "simplify",
        "sweep",
        "run_litert",
        "run_onnx",
        "views",
    },
    {"conversion", "export_keras", "export_onnx", "freeze", "run_graph", "run_keras", "serving", "verification"},
    {"saved_models"},
    {"run_saved_model"},
    {"classifier"},
    {"parts", "tails"},
    {"backbone", "descent", "engine", "layered", "store", "summaries", "report"},
    {"finetune", "training"},
    {"bottlenecks"},
    {"readers"},
    {"export", "export_litert"},
    {"export_saved_model"},
    {"artefacts", "exports"},
    {"flags", "label", "preparation"},
    {"refinement"},
    {"candidates"},
    {"evaluate", "inspection", "scoring"},
    {"delivery"},
    {"pipeline"},
    {"cli_evaluate", "cli_label"},
    {"cli"},
]
HEAVY = {"tensorflow", "tensorflow_hub", "keras", "ai_edge_litert", "tensorboard", "tqdm"}


def modules():
    return sorted(PACKAGE.glob("*.py"))


def layer_of(name):
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


def imported(tree):
    """Yield the package's own modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "retrain":
            yield from (alias.name for alias in node.names if not alias.name.startswith("__"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("retrain."):
            yield node.module.split(".")[1]


def test_every_module_has_a_layer():
    assert {path.stem for path in modules()} - {"__init__"} == set().union(*LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_a_module_imports_only_from_lower_layers(path):
    if path.stem == "__init__":
        return
    for name in imported(ast.parse(path.read_text())):
        assert layer_of(name) < layer_of(path.stem), f"{path.stem} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_heavy_packages_are_imported_inside_functions(path):
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & HEAVY


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_only_pipeline_and_cli_know_the_config(path):
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert "RetrainConfig" not in names or path.stem in ("config", "candidates", "pipeline", "flags", "cli")


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_a_module_opens_with_its_sentence(path):
    assert (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].endswith(".")


def test_importing_the_command_imports_no_tensorflow():
    for module, absent in (("cli", HEAVY | {"numpy", "PIL"}), ("pipeline", HEAVY)):
        code = f"import sys, retrain.{module}; print(sorted(set(sys.modules) & {absent!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


def test_the_top_level_holds_what_was_agreed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    top = {Path(name).parts[0] for name in tracked if name} - {""}
    allowed = {"pyproject.toml", "README.md", "Makefile", "LICENSE", "src", "scripts", "tests", "tf_files"}
    assert {name for name in top if not name.startswith(".")} <= allowed
