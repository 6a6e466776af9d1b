"""The README is kept true: its help blocks, its commands, its files."""

import re
import shlex

from conftest import ROOT, command

from retrain.cli.flags import evaluate_parser, label_image_parser, retrain_parser

README = (ROOT / "README.md").read_text()


def block_after(heading):
    return re.search(re.escape(heading) + r"\n\n```\n(.*?)\n```", README, re.S)[1]


def test_the_help_blocks_equal_the_help(tmp_path):
    env = {"COLUMNS": "100"}
    for name in ("retrain", "label_image", "evaluate"):
        assert block_after(f"`{name} --help`:") == command(name, "--help", cwd=tmp_path, env=env).stdout.strip()


def shell_lines():
    for block in re.findall(r"```sh\n(.*?)```", README, re.S):
        yield from re.sub(r"\\\n\s*", "", block).strip().splitlines()


def test_every_command_in_the_readme_parses():
    parsers = {"retrain": retrain_parser(), "label_image": label_image_parser(), "evaluate": evaluate_parser()}
    parsed = []
    for line in shell_lines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["python", "-m"]:
            words = [words[2].removeprefix("scripts."), *words[3:]]
        if words and words[0] in parsers:
            parsers[words[0]].parse_args(words[1:])
            parsed.append(words[0])
    assert parsed.count("retrain") >= 2
    assert parsed.count("label_image") >= 2


def test_every_make_target_in_the_readme_is_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert (
        set(re.findall(r"\bmake ([a-z-]+)\b", " ".join(re.findall(r"`make [^`]*`|^make .*$", README, re.M)))) <= targets
    )


def test_every_module_is_in_the_table():
    table = README.split("## How it is built")[1].split("##")[0]
    for path in (ROOT / "src" / "retrain").glob("*.py"):
        assert path.stem == "__init__" or f"`{path.stem}`" in table


def test_the_example_in_python_works(tmp_path, monkeypatch, colour_images):
    code = re.search(r"```python\n(.*?)```", README, re.S)[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_photos").symlink_to(colour_images)
    exec(compile(code.replace("500", "20"), "README.md", "exec"), {})
    assert (tmp_path / "tf_files" / "retrained_graph.pb").exists()
