"""The cases that need no process of their own: one damaged file goes through the product's own functions.

A case is right when it ends in a value or in an error that the user can fix; everything else is named by its column.
"""

import hashlib
import json
import random
import shutil
import sqlite3
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scripts.torture.inputs import SIZE, Inputs
from scripts.torture.mutations import flip, mutate

from retrain.errors import RetrainError

TRACEBACK, CRASH, HANG = "tracebacks", "crashes", "hangs"
WRONG, LOST, TORN = "wrong vectors", "lost vectors", "torn files"
_NOTE = 300  # characters of an error that are shown


@dataclass(frozen=True)
class Outcome:
    """What became of a case: its problems, as pairs of a column and a note; what was said; a hash of what was tried."""

    problems: tuple[tuple[str, str], ...] = ()
    answer: str = ""
    digest: str = ""


@dataclass
class Case:
    """One case: its dice, what there is to damage, and a folder for the damaged, whose content `digest` hashes."""

    name: str
    inputs: Inputs
    folder: Path
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.name)

    def write(self, path: Path, data: bytes) -> Path:
        """Write a damaged file."""
        self.digest.update(f"{path.relative_to(self.folder)}\0{len(data)}\0".encode() + data)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


def run(name: str, inputs: Inputs, keep: Path | None = None) -> Outcome:
    """Return the outcome of the case of a name, "kind/seed/number"; what was tried is copied to the folder `keep`."""
    with TemporaryDirectory(prefix="torture_") as folder:
        case = Case(name, inputs, Path(folder))
        problems: tuple[tuple[str, str], ...] = ()
        try:
            answer = CASES[name.partition("/")[0]](case)
            if isinstance(answer, tuple):
                problems, answer = (answer,), "wrong"
        except (RetrainError, MemoryError) as error:
            answer = f"{type(error).__name__}: {str(error)[:_NOTE]}"
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            answer = f"{type(error).__name__}: {str(error)[:_NOTE]} ({Path(where.filename).name}:{where.lineno})"
            problems = ((TRACEBACK, answer),)
            if keep:
                (keep / "traceback.txt").write_text(traceback.format_exc())
        if keep:
            shutil.copytree(folder, keep, dirs_exist_ok=True, symlinks=True)
        return Outcome(problems, answer, case.digest.hexdigest()[:12])


@cache
def _files(folder: Path, pattern: str = "*") -> list[tuple[str, bytes]]:
    """Return names and contents of the files in a folder, read once."""
    return [(path.name, path.read_bytes()) for path in sorted(folder.glob(pattern)) if path.is_file()]


def image(case: Case) -> str:
    """Decode a damaged picture."""
    from retrain.data.decoding import decode

    pictures = _files(case.inputs.pictures)
    name, data = case.dice.choice(pictures)
    ending = name.rpartition(".")[2]
    others = [other for other_name, other in pictures if other_name.endswith(ending)]
    data = mutate(data, ending, case.dice, others if case.dice.random() < 0.8 else [other for _, other in pictures])
    case.write(case.folder / name, data)
    height, width = case.dice.choice(((32, 32), (224, 224), (17, 91)))
    pixels = decode(data, height=height, width=width)
    if pixels.shape != (height, width, 3) or pixels.dtype != np.uint8:
        raise AssertionError(f"pixels {pixels.dtype} {pixels.shape}")
    return "decoded"


def labels(case: Case) -> str:
    """Read a damaged labels file, or damaged metadata."""
    from retrain.metadata import Metadata, read_labels

    if case.dice.random() < 0.3:
        data = mutate(_metadata(case.inputs), "json", case.dice)
        case.write(case.folder / "retrain.json", data)
        try:
            metadata = Metadata.from_json(data)
        except ValueError:  # what the formats expect of it
            return "no metadata"
        if Metadata.from_json(metadata.to_json()) != metadata:
            raise AssertionError("metadata are not what was written of them")
        return metadata.summary()
    names = case.dice.choice(("roses\ntulips\n", "0 cats\n1 dogs\n", "a\n" * 1001, "Ärzte\n猫\nA+\nA-\n", "1:x\n2:y"))
    path = case.write(case.folder / "labels.txt", mutate(names.encode(), "txt", case.dice, [b"0\tx\r\n1\ty"]))
    found = read_labels(path, own=case.dice.random() < 0.5)
    if any(len(name.splitlines()) != 1 or not name.strip() for name in found):
        raise AssertionError(f"labels {found[:5]}")
    return f"{len(found)} labels"


@cache
def _metadata(inputs: Inputs) -> bytes:
    row = {
        "architecture": "x",
        "labels": ["daisy", "roses"],
        "input": "image",
        "height": 64,
        "width": 64,
        "mean": 127.5,
    }
    row |= {"std": [1.0, 2.0, 3.0], "output": "final_result", "test_accuracy": 0.5, "retrain_version": "1"}
    row |= {"split": {"validation": 10, "testing": 10, "folders": False, "contents": "AAAA", "copy": ""}}
    return json.dumps(row).encode()


def model(case: Case) -> str:
    """Load a damaged model and label a photo, describe it, or count its operations."""
    return _use(case, _damaged_model(case, only_metadata=False))


def metadata(case: Case) -> str:
    """Do the same with a model whose metadata alone are damaged."""
    return _use(case, _damaged_model(case, only_metadata=True))


def _damaged_model(case: Case, *, only_metadata: bool) -> Path:
    trained = case.inputs.models / "trained"
    files = [file for file in _files(trained) if file[0].endswith((".pb", ".tflite", ".keras", ".onnx", ".h5"))]
    if only_metadata:
        files = [file for file in files if b'"labels": [' in file[1]]
    name, data = case.dice.choice([*files, *files, ("saved_model", b"")])
    if name == "saved_model":
        return _damaged_saved_model(case, trained / "graph_saved_model", only_metadata=only_metadata)
    ending = name.rpartition(".")[2]
    if only_metadata:
        data = _with_damaged_metadata(data, case.dice)
    else:
        others = [other for other_name, other in files if other_name.endswith(ending)]
        data = mutate(data, ending, case.dice, others)
    return case.write(case.folder / name, data)


def _damaged_saved_model(case: Case, source: Path, *, only_metadata: bool) -> Path:
    target = case.folder / "saved_model"
    shutil.copytree(source, target)
    names = (
        ["retrain.json"] if only_metadata else ["saved_model.pb"] * 3 + ["variables/variables.index", "retrain.json"]
    )
    name = case.dice.choice(names)
    ending = {"saved_model.pb": "pb", "retrain.json": "json"}.get(name, "")
    case.write(target / name, mutate((source / name).read_bytes(), ending, case.dice))
    return target


def _with_damaged_metadata(data: bytes, dice: random.Random) -> bytes:
    """Return a file with damaged metadata of the same length, which leaves all offsets right."""
    start = data.rindex(b"{", 0, data.index(b'"labels": ['))
    _, length = json.JSONDecoder().raw_decode(data[start:].decode("utf-8", "replace"))
    changed = b""
    while not changed or len(changed) > length:
        changed = mutate(data[start : start + length], "json", dice) or b" "
    return data[:start] + changed.ljust(length) + data[start + length :]


def _use(case: Case, path: Path) -> str:
    from retrain.formats.table import format_of
    from retrain.inference import description, loading, prediction
    from retrain.metadata import Metadata
    from retrain.preprocessing import InputSpec

    given = case.write(case.folder / "given.txt", b"a\nb\nc\nd\ne\n") if path.suffix == ".h5" else None
    spec = InputSpec(None, 32, 32, 127.5, 127.5)
    overrides = Metadata(tuple("abcde"), spec) if case.dice.random() < 0.4 or given else None
    if (way := case.dice.random()) < 0.08:
        return "; ".join(description.describe_model(path, labels=given, overrides=overrides))[:_NOTE]
    if way < 0.16:
        return f"{format_of(path).stats(path).parameters} parameters"
    loaded = loading.load(path, labels=given, overrides=overrides)
    photos = [case.inputs.pictures / "baseline.jpg", case.inputs.pictures / "rgba.png"]
    (answer, _) = prediction.label(loaded, photos, k=3)
    if any(not np.isfinite(each.score) for each in answer.ranked):
        raise AssertionError(f"scores {answer.ranked}")
    return str(answer.error or answer.ranked[:1])


def weights(case: Case) -> str:
    """Prepare six photos on a damaged network: weights, graph, Keras file, SavedModel or archive."""
    from retrain.backbones import catalogue, families
    from retrain.backbones.sources import WeightsRequest
    from retrain.preprocessing import InputSpec

    files = _files(case.inputs.weights)
    name, data = case.dice.choice([*files, ("module", b"")])
    ending = name.rpartition(".")[2]
    if name == "module":
        path = _damaged_saved_model(case, case.inputs.weights / "module", only_metadata=False)
    else:
        data = mutate(data, ending, case.dice, [other for _, other in files])
        shown = {"archive.tgz": "mobilenet_v1_0.25_128_frozen.tgz"}.get(name, name)
        path = case.write(case.folder / "models" / shown, data)
    # The graph of the archive is not the codelab's, and has names of its own.
    own = json.loads(next(case.inputs.models.glob("trained/bottlenecks/*/backbone.json")).read_bytes())
    side, target, node = 32, None, None
    if name == "archive.tgz":
        target, node = own["target"], own["source"]
    architecture = {"npz": "mobilenet_bundled", "module": "mobilenet_bundled"}.get(ending, str(path))
    if ending == "tgz":
        architecture = path.name.replace("_v1", "").removesuffix("_frozen.tgz")
        side = side if target else int(architecture.rpartition("_")[2])
    spec = catalogue.select(
        architecture,
        tfhub_module=str(path) if ending == "module" else None,
        image_size=side if ending == "npz" else None,
        network_input=InputSpec(node, side, side, 127.5, 127.5),
        target=target,
    )
    request = WeightsRequest(case.folder / "models", str(path) if ending == "npz" else None)
    photos = case.folder / "photos"
    for folder in ("daisy", "roses"):
        shutil.copytree(case.inputs.photos / folder, photos / folder, ignore=lambda _, names: sorted(names)[3:])
    vectors, _ = _prepare(photos, families.locate(spec, request), case.folder / "bottlenecks")
    return f"{len(vectors)} vectors"


def _prepare(photos: Path, source: object, folder: Path) -> tuple[dict[str, bytes], bool]:
    """Return the vector of each photo, as a run gets it, and whether any was computed for it."""
    from retrain.bottlenecks.preparation import PreparationSettings, describe_split, prepare
    from retrain.data.dataset import scan
    from retrain.data.distortions import Distortions
    from retrain.data.split import DEFAULT_SPLIT
    from retrain.data.variants import Distorter
    from retrain.terminal import Terminal

    settings = PreparationSettings(folder, Distorter(Distortions(), 0))
    with ExitStack() as opened:
        prepared = prepare(scan(photos), source, settings, None, terminal=Terminal(quiet=True), opened=opened)  # type: ignore[arg-type]
        rows = prepared.variants.rows
        describe_split(prepared, DEFAULT_SPLIT)
        vectors = prepared.read(np.arange(len(rows)))
        computed = prepared.extractor.stopwatch.seconds["running"] > 0
        return {row.path: vector.tobytes() for row, vector in zip(rows, vectors, strict=True)}, computed


def store(case: Case) -> str | tuple[str, str]:
    """Damage the files of a store, and compare what the next run gets with what an undisturbed one got."""
    from retrain.backbones import catalogue, families
    from retrain.backbones.sources import WeightsRequest
    from retrain.preprocessing import InputSpec

    spec = catalogue.select(
        "mobilenet_bundled", tfhub_module=None, image_size=SIZE, network_input=InputSpec(), target=None
    )
    source = families.locate(spec, WeightsRequest(case.folder / "models"))
    right = _right_vectors(case.inputs, source)
    folder = case.folder / "bottlenecks" / source.folder_name
    shutil.copytree(case.inputs.store / source.folder_name, folder)
    for _ in range(case.dice.choice((1, 1, 1, 2, 3))):
        _damage_store(case, folder)
    vectors, _ = _prepare(case.inputs.photos, source, folder.parent)
    if wrong := [path for path, vector in vectors.items() if vector != right[path]]:
        return WRONG, f"{len(wrong)} of {len(vectors)} vectors, that of {wrong[0]} first"
    if set(vectors) != set(right):
        return LOST, f"{len(vectors)} of {len(right)} photos have vectors"
    return f"{len(vectors)} vectors"


_RIGHT: dict[Path, dict[str, bytes]] = {}


def _right_vectors(inputs: Inputs, source: object) -> dict[str, bytes]:
    """Return the vectors of an undisturbed run, by a copy of its store."""
    if inputs.store not in _RIGHT:
        with TemporaryDirectory(prefix="torture_") as folder:
            shutil.copytree(inputs.store, folder, dirs_exist_ok=True)
            _RIGHT[inputs.store], computed = _prepare(inputs.photos, source, Path(folder))
        if computed:
            raise RetrainError("the undisturbed store lacks vectors of its own photos")
    return _RIGHT[inputs.store]


def _damage_store(case: Case, folder: Path) -> None:
    dice = case.dice
    path = dice.choice(sorted(folder.iterdir()))
    others = [each.read_bytes() for each in sorted(folder.iterdir()) if each.stat().st_size < 2**17]
    match dice.randrange(10):
        case 0:
            path.unlink()
        case 1 | 2:
            _damage_index(case, folder / "index.sqlite")
        case 3:  # the rows of two photos change places
            for name, size in dice.sample([("vectors.f32", 4 * 512), ("checksums.u32", 4)], dice.choice((1, 2))):
                data = bytearray((folder / name).read_bytes() if (folder / name).exists() else b"")
                first, second = (size * dice.randrange(max(1, len(data) // size)) for _ in range(2))
                one, other = data[first : first + size], data[second : second + size]
                data[first : first + size], data[second : second + size] = other, one
                case.write(folder / name, bytes(data))
        case 4:
            path = dice.choice([folder / "vectors.f32", folder / "checksums.u32", folder / "index.sqlite"])
            data = path.read_bytes() if path.exists() else b""
            case.write(path, flip(data, dice, others))
        case 5:
            case.write(
                folder / dice.choice(("index.sqlite-wal", "index.sqlite-journal", ".backbone.pb.1")), dice.randbytes(99)
            )
        case _:
            case.write(path, mutate(path.read_bytes(), path.name.rpartition(".")[2], dice, others))


def _damage_index(case: Case, path: Path) -> None:
    """Change one column of some rows of the index, or a table."""
    tables = {"vectors": ("key", "row", "checksum"), "files": ("folder", "name", "size", "modified", "row", "reason")}
    tables |= {"folders": ("path",), "counter": ("rows",), "ordered": ("first",)}
    table = case.dice.choice(sorted(tables))
    column = case.dice.choice(tables[table])
    value = case.dice.choice((f"{column} + 1", f"{column} - 1", "0", "-1", "NULL", "'x'", "x'ff'", "1.5", "2000000000"))
    row, number = "row" if table in ("vectors", "files") else "1", case.dice.randrange(60)
    statement = case.dice.choice(
        (
            f"UPDATE OR IGNORE {table} SET {column} = {value}",
            f"UPDATE OR IGNORE {table} SET {column} = {value} WHERE {row} = {number}",
            f"DELETE FROM {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE {table} DROP COLUMN {column}",
            f"ALTER TABLE {table} ADD COLUMN more INTEGER",
        )
    )
    case.digest.update(statement.encode())
    with closing(sqlite3.connect(path)) as index:
        try:
            index.execute(statement)
            index.commit()
        except sqlite3.Error:  # damaged before, or not to be changed so
            index.rollback()


CASES: dict[str, Callable[[Case], str | tuple[str, str]]] = {
    "image": image,
    "labels": labels,
    "model": model,
    "metadata": metadata,
    "weights": weights,
    "store": store,
}
