"""The cases that are whole runs of `retrain`: killed at any moment, or on a file system without room, then repeated.

The moment of a kill is drawn, but a machine is never twice equally fast: a repeated case is killed nearly where it was.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scripts.torture import inputs as making
from scripts.torture.cases import CRASH, HANG, LOST, TORN, TRACEBACK, WRONG, Case, Outcome
from scripts.torture.children import PROCESSES, kill_session
from scripts.torture.inputs import Inputs

from retrain.bottlenecks.store import DamagedVectorsError, Store
from retrain.errors import RetrainError
from retrain.evaluation import runs

_DIMENSION = 512
_SECONDS = 480.0  # of a run on a busy machine; a clean one takes 5 to 20
_TIDY_SECONDS = 120.0  # after a signal, likewise
_MEGABYTE = 2**20
_COMPUTED = re.compile(rb"^Features for .*: (?:(\d+) computed, \d+ from the cache|all from the cache)", re.MULTILINE)
_DRAFT = re.compile(r"\..+\.\d+(-[0-9a-f]{8}-[0-9a-f]{8})?|fine_tuned_.*|.*\.part|retrain_index_.*")
_CHECKPOINT = "checkpoints/head.npz"  # which a run writes while it trains, too
# Bytes of these differ between two runs: times, and what is measured.
_VOLATILE = (".report.html", ".report.json", ".keras", ".retrain", ".sqlite", "-wal", "-shm")
_SETUPS: dict[str, tuple[str, ...]] = {
    "head": ("--intermediate_store_frequency=20",),
    "copies": ("--flip_left_right", "--random_crop=20", "--distortion_copies=3"),
    "fine": ("--fine_tune_from=8", "--fine_tune_steps=12", "--fine_tune_batch_size=8"),
    "sweep": ("--learning_rate=0.01,0.1",),
    "forms": ("--export=keras,tflite_fp16", "--saved_model_dir={folder}/saved_model"),
}
_LOCKS = {name: threading.Lock() for name in _SETUPS}


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, negative for a signal, None where it had to be killed; and its messages."""

    code: int | None
    out: bytes
    messages: str
    killed_with: int | None = None


def kill(case: Case) -> Outcome:
    """Kill a run, and run it again."""
    folder = case.folder
    setup = case.dice.choice(("head", "head", "copies", "fine", "sweep", "forms"))
    _prepared(case, setup, folder)
    number = case.dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    if setup == "fine" and number == signal.SIGINT:
        number = signal.SIGTERM  # a first Ctrl-C exports the best so far, which is the graph of no other run
    ended = _killed(case, _words(setup, folder, case.inputs), folder, number)
    problems = _problems_of_end(ended)
    if ended.killed_with in (signal.SIGTERM, signal.SIGINT) and ended.code == 128 + ended.killed_with:
        problems += [(TORN, f"left after {signal.Signals(ended.killed_with).name}: {name}") for name in _drafts(folder)]
    problems += _after(case, setup, folder)
    return Outcome(tuple(problems), f"{setup}, {number.name}: exit code {ended.code}", setup)


def full(case: Case) -> Outcome:
    """Run where there is no room, make room, and run again."""
    setup = case.dice.choice(("head", "copies", "fine", "forms"))
    room = int(case.dice.choice((case.dice.uniform(0, 1), case.dice.uniform(0, 16))) * _MEGABYTE)
    with _little_room(case.folder, room) as (folder, limit, make_room):
        _prepared(case, setup, folder, within=limit)
        ended = _run(_words(setup, folder, case.inputs), folder, most_bytes=None if limit else room)
        problems = _problems_of_end(ended)
        make_room()
        problems += [(TORN, f"left on a full disk: {name}") for name in _drafts(folder) if ended.code == 1]
        problems += _after(case, setup, folder)
    return Outcome(tuple(problems), f"{setup}, {room / _MEGABYTE:.1f} MB: exit code {ended.code}", setup)


def _words(setup: str, folder: Path, inputs: Inputs, seed: int = 0) -> list[str]:
    words = [f"--image_dir={inputs.photos}", f"--image_size={making.SIZE}", "--how_many_training_steps=60"]
    return [*words, f"--random_seed={seed}", *(word.format(folder=folder) for word in _SETUPS[setup])]


def clean_run(inputs: Inputs, setup: str) -> Path:
    """Return a folder with the results of undisturbed runs: old/ of another seed, then new/ in its place."""
    folder = inputs.clean / setup
    with _LOCKS[setup]:
        if not folder.exists():
            aside = inputs.clean / f"{setup}.part"
            shutil.rmtree(aside, ignore_errors=True)
            # The paths in the results are those of the place where they are made, the same for both.
            making.finish(aside / "at", _words(setup, aside / "at", inputs, seed=1), f"run of {setup}")
            shutil.copytree(aside / "at", aside / "old")
            shutil.rmtree(aside / "at" / "bottlenecks")
            making.finish(aside / "at", _words(setup, aside / "at", inputs), f"run of {setup}")
            (aside / "at").rename(aside / "new")
            aside.rename(folder)
    return folder


def _prepared(case: Case, setup: str, folder: Path, *, within: int | None = None) -> Path:
    """Fill a folder with what a run may meet there, and return the clean results; at most `within` bytes."""
    clean = clean_run(case.inputs, setup)
    state = case.dice.choice(("nothing", "results", "results and store", "store"))
    chosen = []
    if "results" in state:
        chosen += [path for path in (clean / "old").iterdir() if path.name not in ("bottlenecks", "scratch")]
    if "store" in state:
        chosen.append(clean / "new" / "bottlenecks")
    for path in chosen:
        size = sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
        if within is not None and size + 65536 > within:
            continue
        within = within and within - size
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, folder / path.name)
    return clean


def _run(words: Sequence[str], folder: Path, *, most_bytes: int | None = None) -> Ended:
    """Run `retrain` to its end, with files of at most so many bytes."""

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))  # type: ignore[arg-type]

    with TemporaryDirectory(prefix="torture_") as messages:
        options = {"preexec_fn": limit} if most_bytes is not None else {}
        return _ended(_start(words, folder, Path(messages), **options), Path(messages))


def _start(words: Sequence[str], folder: Path, messages: Path, **options: object) -> "subprocess.Popen[bytes]":
    """Start `retrain`; what it says goes to out and err in a folder that never is full."""
    with (messages / "out").open("wb") as out, (messages / "err").open("wb") as err:
        process = making.run_retrain(folder, words, stdout=out, stderr=err, **options)
    PROCESSES.add(process)
    return process


def _killed(case: Case, words: Sequence[str], folder: Path, number: int) -> Ended:
    """Run `retrain` and send it a signal, at any time or shortly after it has said something."""
    if case.dice.random() < 0.5:
        lines, wait = case.dice.randrange(1, 30), case.dice.uniform(0, 0.6)
    else:
        lines, wait = 0, case.dice.uniform(0.1, 8)
    with TemporaryDirectory(prefix="torture_") as folder_of_messages:
        messages = Path(folder_of_messages)
        process = _start(words, folder, messages)
        while process.poll() is None and (messages / "out").read_bytes().count(b"\n") < lines:
            time.sleep(0.005)
        # Until the command listens to it, a signal ends Python as it ends any program.
        while number != signal.SIGKILL and process.poll() is None and not _listens(process.pid):
            time.sleep(0.005)
        time.sleep(wait)
        if process.poll() is not None:
            return _ended(process, messages)
        process.send_signal(number)
        return replace(_ended(process, messages, seconds=_TIDY_SECONDS), killed_with=number)


def _listens(pid: int) -> bool:
    """Return whether a process has a handler of SIGTERM; True where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    (caught,) = re.findall(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _ended(process: "subprocess.Popen[bytes]", messages: Path, seconds: float = _SECONDS) -> Ended:
    try:
        code: int | None = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = None
    kill_session(process)
    PROCESSES.check()
    return Ended(code, (messages / "out").read_bytes(), (messages / "err").read_text(errors="replace"))


def _problems_of_end(ended: Ended) -> list[tuple[str, str]]:
    """Return what is wrong with the way in which a run ended."""
    lines = ended.messages.strip().splitlines() or [""]
    if ended.code is None:
        return [(HANG, f"still there after the signal or {_SECONDS:.0f} s: {lines[-1]}")]
    if "Traceback" in ended.messages:
        return [(TRACEBACK, lines[-1][:200])]
    expected = {0, 1} if ended.killed_with is None else {0, -ended.killed_with, 128 + ended.killed_with}
    # A command that is done listens no longer, and Python ends as any program does.
    if ended.killed_with in (signal.SIGTERM, signal.SIGINT) and b"See the curves" not in ended.out:
        expected.discard(-ended.killed_with)
    if ended.code not in expected:
        return [(CRASH, f"exit code {ended.code}: {lines[-1][:200]}")]
    if ended.code == 1 and not lines[-1].startswith("retrain: "):
        return [(TRACEBACK, f"no error in one line: {lines[-1][:200]}")]
    return []


def _after(case: Case, setup: str, folder: Path) -> list[tuple[str, str]]:
    """Look at what an ended run left, run it again to its end, and compare with undisturbed runs."""
    clean = clean_run(case.inputs, setup)
    problems = [(TORN, f"neither old nor new: {name}") for name in _torn(folder, clean)]
    right = _vectors(clean / "new" / "bottlenecks")
    before = set(_vectors(folder / "bottlenecks"))
    again = _run(_words(setup, folder, case.inputs), folder)
    if again.code != 0 or "Traceback" in again.messages:
        column = TRACEBACK if "Traceback" in again.messages else TORN
        return [*problems, (column, f"the repeated run: exit code {again.code}: {again.messages.strip()[-200:]}")]
    computed = sum(int(count or 0) for count in _COMPUTED.findall(again.out))
    if computed > len(set(right) - before):
        problems.append((LOST, f"{computed} computed again, and {len(before)} of {len(right)} were there"))
    after = _vectors(folder / "bottlenecks")
    if wrong := [key for key, vector in after.items() if right.get(key) != vector]:
        problems.append((WRONG, f"{len(wrong)} of {len(after)}"))
    if lost := set(right) - set(after):
        problems.append((LOST, f"{len(lost)} of {len(right)} are missing after the repeated run"))
    problems += [(TORN, f"not as in a clean run: {name}") for name in _torn(folder, clean, only_new=True)]
    return problems + [(TORN, f"left after the repeated run: {name}") for name in _drafts(folder)]


def _vectors(folder: Path) -> dict[bytes, bytes]:
    """Return key and bytes of each vector in the stores of a --bottleneck_dir that is whole, read from a copy."""
    found: dict[bytes, bytes] = {}
    for index in sorted(folder.glob("*/index.sqlite")):
        with TemporaryDirectory(prefix="torture_") as copy, suppress(RetrainError, sqlite3.Error):
            shutil.copytree(index.parent, copy, dirs_exist_ok=True)
            with closing(sqlite3.connect(Path(copy, index.name))) as opened:
                keys = [key for (key,) in opened.execute("SELECT key FROM vectors")]
            with Store(Path(copy), dimension=_DIMENSION) as store:
                found |= {key: vector for key in keys if (vector := _vector(store, key)) is not None}
    return found


def _vector(store: Store, key: bytes) -> bytes | None:
    row = store.find(key)
    try:
        return None if row is None else store.read(np.array([row])).tobytes()
    except DamagedVectorsError:
        return None


def _torn(folder: Path, clean: Path, *, only_new: bool = False) -> list[str]:
    """Return the results in a folder that are complete neither in the old form nor in the new."""
    torn = [str(run) for run in sorted((folder / "runs").glob("*")) if not _is_whole_run(run)]
    found = {str(path.relative_to(folder)): path for path in sorted(_results(folder))}
    for name, path in found.items():
        states = [clean / "new" / name, *([] if only_new else [clean / "old" / name])]
        if name.endswith(_VOLATILE):
            whole = _is_whole(path)
        else:
            content = path.read_bytes()
            whole = any(state.is_file() and state.read_bytes() == content for state in states)
            whole = whole or (name == _CHECKPOINT and not only_new and _is_whole(path))
        if not whole:
            torn.append(name)
    if only_new:
        expected = {str(path.relative_to(clean / "new")) for path in _results(clean / "new")}
        torn += [f"{name} is missing" for name in sorted(expected - set(found))]
    return torn


def _results(folder: Path) -> Iterator[Path]:
    """Yield the files of results; drafts, the store's arrays, curves and kept runs are looked at elsewhere."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        apart = ("scratch", "bottlenecks", "models", "summaries", "runs")
        if parts[0] in apart or any(map(_DRAFT.fullmatch, parts)):
            continue
        if path.is_file() and not path.name.startswith("head.fine_tuning"):
            yield path


def _is_whole_run(folder: Path) -> bool:
    """Return whether a kept run, named by its time and so like no other, can be read; a draft counts as one."""
    if _DRAFT.fullmatch(folder.name):
        return True
    try:
        kept = runs.read(folder)
        runs.predictions(kept)
    except RetrainError:
        return False
    return all((folder / name).is_file() for name in (runs.PAGE, runs.FIGURES))


def _is_whole(path: Path) -> bool:
    try:
        if path.name.endswith(".json"):
            return isinstance(json.loads(path.read_bytes()), dict)
        if path.name.endswith((".keras", ".npz")):
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        return not path.name.endswith(".html") or path.read_bytes().rstrip().endswith(b"</html>")
    except (ValueError, zipfile.BadZipFile):
        return False


def _drafts(folder: Path) -> list[str]:
    """Return the drafts in a folder, and other files that only a killed run leaves."""
    paths = [path.relative_to(folder) for path in folder.rglob("*")]
    return [str(path) for path in sorted(paths) if path.parts[0] != "scratch" and _DRAFT.fullmatch(path.name)]


@cache
def can_mount() -> bool:
    """Return whether this user may mount a small file system; tried once."""
    with TemporaryDirectory(prefix="torture_") as folder:
        if os.geteuid() or not shutil.which("mount"):
            return False
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
        return True


@contextmanager
def _little_room(folder: Path, room: int) -> Iterator[tuple[Path, int | None, Callable[[], object]]]:
    """Mount a file system of so many bytes, where that is allowed; yield a folder, its room, and what makes more."""
    if not can_mount():
        yield folder, None, lambda: None
        return
    place = folder / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(room, 65536)}", "tmpfs", str(place)], check=True)
    try:
        yield place, room, lambda: subprocess.run(["mount", "-o", "remount,size=512m", str(place)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


RUNS = {"kill": kill, "full": full}
