"""The front doors: `python -m retrain` and what `from retrain import ...` offers."""

import ast
import importlib
import subprocess
import sys
import tomllib

import pytest
from builders import exported
from conftest import ROOT, command, photo
from packaging.requirements import Requirement

import retrain

PACKAGE = ROOT / "src" / "retrain"


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_imports_no_library():
    heavy = {"numpy", "PIL", "tensorflow", "keras", "argparse"}
    assert python(f"import sys, retrain; print(sorted(set(sys.modules) & {heavy}))") == "[]"


def test_the_exports_are_what_all_says_for_programs_and_for_type_checkers():
    (block,) = [node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(typed) == retrain.__all__
    for name in retrain.__all__:
        assert name in dir(retrain)
        assert getattr(retrain, name).__module__ == typed[name]
    with pytest.raises(AttributeError, match="no attribute 'learn'"):
        retrain.learn  # noqa: B018


def test_a_model_is_loaded_and_photos_labelled_and_measured_in_three_lines(mean_colour_backbone, tmp_path):
    graph = exported(mean_colour_backbone, tmp_path / "g.pb")
    image = photo(tmp_path / "photos" / "red" / "1.png", (255, 0, 0))
    model = retrain.load(graph)
    assert [prediction.ranked[0].label for prediction in retrain.label(model, [image])] == ["red"]
    assert retrain.evaluate(model, tmp_path / "photos", split=None).figures.accuracy == 1.0


def test_the_module_is_the_command(tmp_path):
    env = {"COLUMNS": "200"}
    assert (
        command("python", "-m", "retrain", "--help", cwd=tmp_path, env=env).stdout
        == command("retrain", "--help", cwd=tmp_path, env=env).stdout
    )
    assert command("python", "-m", "retrain", cwd=tmp_path, code=2).stderr.startswith("retrain: --image_dir is missing")


@pytest.mark.parametrize(
    ("machine", "there"), [("x86_64", True), ("AMD64", True), ("aarch64", False), ("arm64", False)]
)
def test_openvino_comes_with_the_package_on_x86_64_as_each_system_calls_it(machine, there):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (needed,) = [each for each in map(Requirement, project["dependencies"]) if each.name == "openvino"]
    assert needed.marker.evaluate({"platform_machine": machine}) is there


def test_each_command_is_the_module_of_its_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "retrain-images"
    assert project["scripts"] == {
        name: f"retrain.cli.{name}:command" for name in ("retrain", "label_image", "evaluate", "check_images")
    }
    for name in project["scripts"]:
        module = importlib.import_module(f"retrain.cli.{name}")
        assert module.command.args == (name, module.main)
