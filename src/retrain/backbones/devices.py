"""The processors that TensorFlow runs on: how many there are, and how work is spread over them."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from retrain.backbones import slurm
from retrain.errors import TrainingError, UsageError, first_line

DISTRIBUTIONS = ("mirrored", "multi_worker", "none")
_HIDDEN = ("", "-1")  # values of CUDA_VISIBLE_DEVICES
# What Linux calls GPUs that a TensorFlow uses: Nvidia's, those of Windows below it, AMD's.
_GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU; it is asked, and imported, only where there may be one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in _HIDDEN:
        return False
    if sys.platform == "linux" and not any(Path(file).exists() for file in _GPU_FILES):
        return False
    import tensorflow as tf

    share_memory()
    return bool(tf.config.list_physical_devices("GPU"))


def share_memory() -> None:
    """Let TensorFlow take a GPU's memory as it needs it, and not all of it at once; before its first use."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # TensorFlow has begun to use it: the caller's own settings stand
            return


def strategy(distribution: str) -> Any:
    """Return the tf.distribute.Strategy of a distribution.

    Args:
        distribution: `mirrored` for every GPU of this machine (or logical processor, where there are several),
            `multi_worker` for the machines in the environment variable TF_CONFIG, or else for the tasks of the SLURM
            step that this process belongs to, `none` for one device.

    Raises:
        UsageError: No workers are named, or TF_CONFIG or SLURM's variables are invalid.
    """
    if distribution == "multi_worker":
        return _of_workers()
    import tensorflow as tf

    share_memory()
    names = _device_names()
    if distribution == "mirrored" and len(names) > 1:
        # On a CPU there is no NCCL to add gradients with.
        add = None if "GPU" in names[0] else tf.distribute.ReductionToOneDevice()
        return tf.distribute.MirroredStrategy(names, cross_device_ops=add)
    return tf.distribute.get_strategy()


def worker_suffix(strategy: Any) -> str:
    """Return a file name suffix for this process of a strategy: its kind and number, "" where it is alone."""
    resolver = strategy.cluster_resolver
    return "" if resolver is None or resolver.task_type is None else f"_{resolver.task_type}_{resolver.task_id}"


def is_chief(strategy: Any) -> bool:
    """Return whether this process is the one that writes results."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type in (None, "chief"):
        return True
    return resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs


@contextlib.contextmanager
def missing_workers(strategy: Any) -> Iterator[None]:
    """Say in one line that another process of a strategy has ended or cannot be reached, while the block runs.

    Args:
        strategy: From `strategy`, or None for none.

    Raises:
        TrainingError: So it is.
    """
    try:
        yield
    except Exception as error:
        if strategy is None or not worker_suffix(strategy):
            raise
        import tensorflow as tf

        errors = tf.errors
        kinds = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
        if not isinstance(error, kinds):
            raise
        raise TrainingError(
            "Another worker has ended or cannot be reached. See what it printed, and run the same command on all "
            "workers again: it goes on from the last checkpoint."
        ) from error


def split_across_replicas(strategy: Any, count: int, make: Callable[[slice], Any]) -> Any:
    """Return the result of `make` for each replica's share of `count` rows, for `strategy.run`."""
    replicas = strategy.num_replicas_in_sync

    def of_replica(context: Any) -> Any:
        number = context.replica_id_in_sync_group
        return make(slice(count * number // replicas, count * (number + 1) // replicas))

    return strategy.experimental_distribute_values_from_function(of_replica)


def all_replicas_agree(strategy: Any, value: int) -> bool:
    """Return whether every process of a strategy has the same value."""
    import tensorflow as tf

    def squares() -> Any:
        context = tf.distribute.get_replica_context()
        number = tf.cast(value, tf.float64)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack([number, number * number]))

    summed = tf.function(lambda: strategy.run(squares))()
    total, square = strategy.experimental_local_results(summed)[0].numpy()
    count = strategy.num_replicas_in_sync
    return bool(total == value * count and square == value * value * count)


def _of_workers() -> Any:
    step = None if os.environ.get("TF_CONFIG") else slurm.step(os.environ)
    if step is None and not os.environ.get("TF_CONFIG"):
        raise UsageError(
            "--distribution multi_worker needs workers: start it in a SLURM step of several tasks (srun --ntasks 2), "
            "or set the environment variable TF_CONFIG, which names all workers and this one: "
            "https://www.tensorflow.org/guide/distributed_training#TF_CONFIG"
        )
    import tensorflow as tf

    share_memory()
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(_resolver(step) if step else None)
    except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        source = "TF_CONFIG is invalid" if step is None else f"The workers {', '.join(step.addresses)} cannot be used"
        raise UsageError(f"{source}: {first_line(error)}.") from error


def _resolver(step: slurm.Step) -> Any:
    """Return what tells tf.distribute the workers of a SLURM step."""
    import tensorflow as tf

    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(step.addresses)}),
        task_type="worker",
        task_id=step.rank,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )


def _device_names() -> list[str]:
    """Return the names of this machine's GPUs, or else of its logical processors."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]
