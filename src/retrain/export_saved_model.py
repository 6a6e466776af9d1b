"""Writes SavedModels: whole or not at all, and never in the place of something else."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from retrain import export, graphs, serving
from retrain.errors import ExportError
from retrain.files import aside
from retrain.metadata import METADATA_FILE, Metadata


def write(folder: Path, graph: graphs.GraphDef, told: Metadata) -> None:
    """Write a frozen graph as a SavedModel for services, see `serving`.

    Args:
        folder: Made by this; one that this wrote before is replaced.
        graph: A frozen graph.
        told: What it says of itself.

    Raises:
        ExportError: The folder cannot be written.
    """
    own = replace(told, input=serving.PIXELS, output=serving.PROBABILITIES, bottleneck=None, mean=0.0, std=1.0)
    _put(folder, own, lambda draft: serving.write(draft, graph, told))


def write_as_the_original(folder: Path, graph: graphs.GraphDef, told: Metadata) -> None:
    """Write a frozen graph as the SavedModel that `retrain.py --saved_model_dir` wrote.

    Its signature `serving_default` takes `image`, float32 [N, height, width, 3] in [0, 1], and gives `prediction`,
    float32 [N, C]. It holds no functions, so that TensorFlow 1 loads it too.

    Args:
        folder: Made by this; one that this wrote before is replaced.
        graph: A frozen graph.
        told: What it says of itself.

    Raises:
        ExportError: The folder cannot be written.
    """
    own = replace(told, input="image", output="prediction", bottleneck=None, mean=0.0, std=255.0)
    _put(folder, own, lambda draft: _save_as_the_original(draft, graph, told))


def check(folder: Path) -> None:
    """Fail now, not after the training, where a SavedModel would take the place of something else.

    Raises:
        ExportError: The folder holds other things than a SavedModel that retrain wrote, or cannot be made.
    """
    export.check_writable(folder / "saved_model.pb")
    if any(folder.iterdir()) and not (folder / METADATA_FILE).exists():
        raise ExportError(f"{folder} holds other files already. Name a folder that does not exist.")


def _put(folder: Path, told: Metadata, save: Callable[[Path], None]) -> None:
    draft = aside(folder)
    try:
        save(draft)
        (draft / METADATA_FILE).write_text(told.to_json())
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    except OSError as error:
        raise ExportError(f"cannot write {folder}: {error.strerror}. Name another folder.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _save_as_the_original(folder: Path, graph: graphs.GraphDef, told: Metadata) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, [None, told.height, told.width, 3], name="image")
        pixels = (image * 255.0 - (told.mean or 0.0)) / (told.std or 1.0)
        (prediction,) = tf.graph_util.import_graph_def(graph, {told.input: pixels}, [f"{told.output}:0"], name="")
        signature = v1.saved_model.predict_signature_def({"image": image}, {"prediction": prediction})
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.SERVING], {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature}
        )
        builder.save()
