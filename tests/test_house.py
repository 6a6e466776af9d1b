"""The rules of the house that import-linter cannot see: heavy imports, who knows the settings, sentences."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "src" / "retrain"
KNOW_THE_CONFIG = {
    "config", "plans", "networks", "candidates", "folds", "results", "features", "finishing", "pipeline", "checking",
    "cli/check_images", "cli/flags", "cli/marks", "cli/retrain", "cli/tensorboard",
}  # fmt: skip
HEAVY = {
    *("tensorflow", "tensorflow_hub", "keras", "ai_edge_litert", "openvino", "tensorboard"),
    *("rich", "shtab", "pillow_heif", "ray", "grpc", "fsspec", "s3fs", "gcsfs", "adlfs", "sshfs"),
}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_heavy_packages_are_imported_inside_functions(path):
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & HEAVY


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_pipeline_and_cli_know_the_config(path):
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert "RetrainConfig" not in names or name_of(path) in KNOW_THE_CONFIG


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_opens_with_its_sentence(path):
    assert (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].endswith(".")


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_commands_change_the_process_that_they_run_in(path):
    """Modules, the garbage collector and file descriptors belong to the program that imports this package."""
    calls = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    surgery = {"sys.modules", "gc.freeze", "gc.disable", "os.dup2", "os.fork", "logging.disable", "sys.stderr.fileno"}
    assert not calls & surgery or name_of(path).startswith("cli/")


def test_importing_the_command_imports_no_tensorflow():
    for module, absent in (("cli.retrain", HEAVY | {"numpy", "PIL"}), ("pipeline", HEAVY)):
        code = f"import sys, retrain.{module}; print(sorted(set(sys.modules) & {absent!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


def test_the_top_level_holds_what_was_agreed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    top = {Path(name).parts[0] for name in tracked if name} - {""}
    allowed = set("pyproject.toml README.md Makefile LICENSE CHANGELOG.md src scripts tests tf_files".split())
    assert {name for name in top if not name.startswith(".")} <= allowed
