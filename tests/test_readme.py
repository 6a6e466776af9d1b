"""Every page is kept true: its commands parse, its paths exist, its examples run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from conftest import COLOURS, ROOT, colour_folder, photo

from retrain.cli.check_images import check_images_parser
from retrain.cli.flags import evaluate_parser, label_image_parser, retrain_parser

PACKAGE = ROOT / "src" / "retrain"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (
        *(ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "scripts").rglob("README.md"))),
        *(ROOT / ".github" / "CONTRIBUTING.md", *sorted(PACKAGE.rglob("README.md"))),
    )
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Parses each command as its process would, and stops it as soon as its own parser has read the words.
PARSE = """
import argparse, contextlib, importlib, io, json, runpy, sys

class Parsed(BaseException):
    pass

def parse_and_stop(parser, args=None, namespace=None, parse=argparse.ArgumentParser.parse_known_args):
    raise Parsed(parse(parser, args, namespace)[1])

argparse.ArgumentParser.parse_known_args = parse_and_stop

def problem(entry, words):
    module, _, function = entry.partition(":")
    sys.argv = [module, *words]
    text = io.TextIOWrapper(io.BytesIO())
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            if function:
                getattr(importlib.import_module(module), function)()
            else:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Parsed as parsed:
        return f"unknown {parsed.args[0]}" if parsed.args[0] else None
    except SystemExit as stopped:
        text.seek(0)
        return text.read() if stopped.code else None
    except Exception as error:
        return repr(error)
    return "it parses nothing"

print(json.dumps([problem(*command) for command in json.load(sys.stdin)]))
"""


def blocks(page, kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGES[page], re.S)


def in_backticks(page):
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGES[page], flags=re.S))


def commands_in(text):
    """Yield the words of each command: comments, pipes and redirections left out."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                yield from [words] if words else []
                words = [">"] if "<" in word or ">" in word else []  # a file's name is no command
            else:
                words.append(word)


def with_inner_ones(words):
    """Yield a command, what it runs after a --, and the `retrain` whose flags follow a script of SLURM's."""
    yield words
    if "--" in words[:-1]:
        yield from with_inner_ones(words[words.index("--") + 1 :])
    for number, word in enumerate(words if words[0] == "sbatch" else []):
        if word.endswith(".sh"):
            yield ["retrain", *words[number + 1 :]]


def commands():
    for page in PAGES:
        for text in (*blocks(page, "sh"), *in_backticks(page)):
            for outer in commands_in(text):
                yield from ((page, words) for words in with_inner_ones(outer))


def entry_point(words):
    """Return what a command of ours runs and with which words, None for a command of others."""
    if words[0] in PROJECT["scripts"] and len(words) > 1:
        return PROJECT["scripts"][words[0]], words[1:]
    if words[:2] == ["python", "-m"] and re.fullmatch(r"(scripts(\.\w+)+|retrain)", words[2]):
        return words[2], words[3:]
    return None


def test_every_command_on_a_page_parses():
    found = [(page, words, entry_point(words)) for page, words in commands() if entry_point(words)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE],
        input=json.dumps([entry for _, _, entry in found]),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    problems = zip(found, json.loads(done.stdout), strict=True)
    assert [(page, " ".join(words), problem) for (page, words, _), problem in problems if problem] == []
    parsed = [words[2] if words[0] == "python" else words[0] for _, words, _ in found]
    assert {"retrain", "label_image", "evaluate", "scripts.retrain", "scripts.lesson_santa"} <= set(parsed)


def test_every_make_target_and_every_extra_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    extras = set(PROJECT["optional-dependencies"])
    for page, words in commands():
        if words[0] == "make" and len(words) > 1:
            assert words[1] in targets, page
        if words[:2] == ["pip", "install"]:
            named = re.findall(r"\[([\w,]+)\]", " ".join(words))
            assert {extra for extras_of_one in named for extra in extras_of_one.split(",")} <= extras, page
            assert not {word for word in words[2:] if word.startswith("retrain")} - {
                f"{PROJECT['name']}[{extra}]" for extra in extras
            }, page


@pytest.mark.parametrize("page", PAGES)
def test_every_path_on_a_page_exists(page):
    bases = [(ROOT / page).parent, ROOT, PACKAGE, ROOT / "scripts"]
    for target in re.findall(r"\]\(([^)#]+)\)", PAGES[page]):
        assert (ROOT / page).parent.joinpath(target).exists(), target
    inside = {entry.name for base in bases for entry in base.iterdir()} - {"tf_files"}
    for word in in_backticks(page):
        is_ours = re.fullmatch(r"[\w./-]+", word) and (
            word.endswith((".py", ".md", ".toml")) or ("/" in word and word.split("/")[0] in inside)
        )
        assert not is_ours or any((base / word).exists() for base in bases), word


@pytest.mark.parametrize("page", PAGES)
def test_every_module_on_a_page_exists(page):
    for word in in_backticks(page):
        if re.fullmatch(r"retrain(\.\w+)+", word) and not word.endswith(".py"):
            path = PACKAGE.joinpath(*word.split(".")[1:])
            assert path.is_dir() or path.with_suffix(".py").exists(), word
        elif word.startswith("from retrain"):
            exec(word, {})


def test_every_room_is_in_the_architecture():
    page = PAGES["src/retrain/README.md"]
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert [name for name in sorted(rooms) if f"`{name}/`" not in page] == []
    assert [name for name in sorted(modules) if f"`{name}`" not in page] == []


def test_every_page_is_linked():
    linked = {
        (ROOT / page).parent.joinpath(target).resolve()
        for page, text in PAGES.items()
        for target in re.findall(r"\]\(([^)#]+)\)", text)
    }
    assert {ROOT / page for page in PAGES} - linked == set()


def test_every_flag_is_on_a_page():
    text = "\n".join(PAGES.values())
    flags = {
        option
        for parser in (retrain_parser(), label_image_parser(), evaluate_parser(), check_images_parser())
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    }
    assert [flag for flag in sorted(flags) if not re.search(rf"{flag}\b", text)] == []


def test_the_readme_is_an_overview():
    assert len(PAGES["README.md"].splitlines()) <= 220
    assert not any("usage: " in text for text in PAGES.values())


def test_nothing_is_told_twice():
    seen = {}
    for page, text in PAGES.items():
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        for start in range(len(lines) - 4):
            passage = "\n".join(lines[start : start + 5])
            assert passage not in seen, f"{page} and {seen.get(passage)} both say:\n{passage}"
            seen[passage] = page


def shell(script, folder):
    """Run commands as `pyproject.toml` declares them, installed or not, and return what they print."""
    with tempfile.TemporaryDirectory() as scripts:
        for name, entry in PROJECT["scripts"].items():
            module, _, function = entry.partition(":")
            file = Path(scripts, name)
            file.write_text(
                f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
            )
            file.chmod(0o755)
        return run_with(scripts, script, folder)


def run_with(scripts, script, folder):
    path = os.pathsep.join([scripts, str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def block_with(page, words):
    [block] = [block for block in blocks(page, "sh") if words in block]
    return block


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder of photos in which the README's own commands have run, and what they printed."""
    folder = tmp_path_factory.mktemp("readme")
    colour_folder(folder / "my_photos")
    photo(folder / "another.jpg", COLOURS["cyan"], seed=99)
    block = block_with("README.md", "label_image another.jpg")
    return folder, shell(block.replace("pip install .\n", ""), folder)


@pytest.mark.slow
def test_the_first_commands_of_the_readme_work(trained):
    folder, printed = trained
    assert "Final test accuracy = 100.0%" in printed
    assert re.search(r"^cyan \(score=", printed.split("Evaluation time")[1], re.M)
    assert (
        "The mean colour of a photo alone tells" in printed.split("Final test accuracy")[0]
    )  # of photos of one colour
    table = PAGES["README.md"].split("Results go into")[1].split("#")[0]
    files = set(re.findall(r"^\| `([\w.]+/?)`", table, re.M)) - {"models/"}  # nothing was downloaded
    assert {name for name in files if not (folder / "tf_files" / name).exists()} == set()
    assert len(files) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in PAGES[page]])
def test_the_examples_in_python_work_without_the_noise_of_tensorflow(page, trained, tmp_path):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "tf_files" / "bottlenecks")  # so that TensorFlow freezes the backbone
    for block in blocks(page, "python"):
        done = subprocess.run(
            [sys.executable, "-c", block.replace("=500", "=20")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert re.search(r"^1\.0 |cyan", done.stdout, re.M)
        assert done.stderr == ""


@pytest.mark.slow
def test_a_whole_archive_is_labelled_as_the_page_says(trained, tmp_path):
    shutil.copytree(trained[0] / "tf_files", tmp_path / "tf_files")
    for folder, ending in (("my_archive/2024", "jpg"), ("shots/new", "png")):
        for name, colour in COLOURS.items():
            photo(tmp_path / folder / f"{name}.{ending}", colour, seed=50)
    printed = shell(block_with("src/retrain/inference/README.md", "label_image --csv my_archive"), tmp_path)
    labels = [line.split(",") for line in (tmp_path / "labels.csv").read_text().splitlines()[1:]]
    assert {Path(image).stem: label for image, rank, label, *_ in labels if rank == "1"} == {c: c for c in COLOURS}
    assert {Path(json.loads(line)["image"]).stem for line in printed.splitlines() if line.startswith("{")} == set(
        COLOURS
    )
    assert {path.parent.name for path in (tmp_path / "sorted").glob("*/*.jpg")} == set(COLOURS)


@pytest.mark.slow
def test_the_companions_work_as_their_page_says(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "another.jpg", tmp_path / "photo.jpg")
    script = block_with("scripts/README.md", "scripts.count_ops")
    quick = [line for line in script.splitlines() if "count_ops" in line or "show_image" in line]
    printed = shell("\n".join(quick), tmp_path)
    assert int(printed.splitlines()[0]) > 10
