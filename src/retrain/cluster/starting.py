"""Joins a running Ray cluster, or starts one on this machine that ends with the program."""

import importlib.util
import logging
import os
import re
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from retrain import workers
from retrain.cluster.reasons import mismatch
from retrain.errors import ClusterError, UsageError, first_line
from retrain.files import lock

_ADDRESS = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_PROBE_SECONDS = 5.0  # for a cluster to answer; Ray itself tries for two minutes, and then ends the process
_FOLDERS = "retrain-ray-"
_ENDING_SECONDS = 10.0  # for the processes of a Ray that we started, which are killed, to be gone
_LONGEST_FOLDER = 40  # letters of the path in which Ray makes sockets, whose paths have 107 at most


def check_address(text: str) -> str:
    """Return what `--cluster` says.

    Raises:
        UsageError: It is neither `auto` nor HOST:PORT.
    """
    if text != "auto" and not _ADDRESS.fullmatch(text):
        shown = text.rpartition("@")[2]  # without a password
        raise UsageError(
            f"--cluster {shown}: not an address. Give auto, or HOST:PORT of the head node, on a machine of the cluster."
        )
    return text


def require_ray() -> None:
    """Raise a ClusterError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("--cluster needs Ray: pip install 'retrain-images[cluster]'")


@contextmanager
def connected(address: str) -> Iterator[str]:
    """Connect this process to Ray, and give the address of its dashboard, "" for none.

    A program that is connected already stays so. Otherwise the connection ends with this context, and what was started
    on this machine with it, even where this process is killed.

    Args:
        address: `auto`, or where the cluster is: see `check_address`.

    Raises:
        ClusterError: Ray is missing, does not answer within seconds, cannot be started, or is another version.
    """
    check_address(address)
    require_ray()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would ask on the terminal
    with _without_warnings():
        import ray

    if ray.is_initialized():
        if address not in ("auto", ray.get_runtime_context().gcs_address):
            raise ClusterError(f"--cluster {address}: this program is connected to another Ray. Shut that down first.")
        yield ray._private.worker.get_dashboard_url() or ""
        return
    with ExitStack() as stack:
        _hold_back_messages(stack)
        found = _running() if address == "auto" else address
        try:
            with _without_warnings(), _own_signals():
                context = _joined(found) if found else _started(stack)
        except (Exception, SystemExit) as error:
            doing = f"--cluster {address}: cannot join {found}" if found else "--cluster auto: cannot start Ray"
            raise ClusterError(f"{doing}: {mismatch(error) or first_line(error)}.") from error
        stack.callback(ray.shutdown)
        yield context.dashboard_url or ""


def _joined(address: str) -> Any:
    import ray

    _probe(address)
    return ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)


def _started(stack: ExitStack) -> Any:
    """Start Ray on the cores of this process, with its files in a folder that is removed when `stack` closes."""
    import ray

    folder = str(_own_folder(stack))
    with ExitStack() as restored:
        # What Ray's processes and workers leave behind when they are killed goes with the folder.
        restored.callback(_set_variable, "TMPDIR", os.environ.get("TMPDIR"))
        _set_variable("TMPDIR", folder)
        return ray.init(
            "local",
            num_cpus=workers.cores(),
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _temp_dir=folder,
        )


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _running() -> str | None:
    """Return the address of the Ray that RAY_ADDRESS names or that `ray start` started here last, None for neither.

    Not `ray.init("auto")`: that would also join what another program started for itself, and end with it.
    """
    from ray._private.services import find_bootstrap_address

    named = os.environ.get("RAY_ADDRESS")
    if named and named not in ("auto", "local"):
        if not _ADDRESS.fullmatch(named):
            raise ClusterError(
                "--cluster auto: the environment variable RAY_ADDRESS is no address. Set it to HOST:PORT of the head "
                "node, or unset it."
            )
        return named
    with suppress(Exception):  # that file stays when a machine is switched off
        found = find_bootstrap_address(None)
        if found:
            _probe(found)
            return str(found)
    return None


def _probe(address: str) -> None:
    """Raise where no server answers that speaks gRPC, as Ray's do."""
    import grpc

    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):  # Ray reads the certificates, this does not
        return
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_PROBE_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise ConnectionError("no Ray answers there. Start one with `ray start --head`, or give auto") from error
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")(b"", timeout=_PROBE_SECONDS)
        except (
            grpc.RpcError
        ) as error:  # a client server does not know that question, but it, too, asks for a token first
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                _show_token()


def _show_token() -> None:
    """Let Ray show the user's token from now on, where the environment does not say whether to."""
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    if not maybe_enable_token_auth_if_token_available(warn_if_disabled=False):
        raise ConnectionError("it asks for a token. Copy ~/.ray/auth_token of its head node to this machine")


def _own_folder(stack: ExitStack) -> Path:
    """Make a folder for the files of a Ray that we start, and remove those of processes that were killed."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > _LONGEST_FOLDER - len(_FOLDERS) - 8 and Path("/tmp").is_dir():
        parent = Path("/tmp")
    for folder in parent.glob(f"{_FOLDERS}*"):
        with ExitStack() as held, suppress(OSError):
            if lock(folder, held, wait=False):
                _remove(folder)
    made = Path(tempfile.mkdtemp(prefix=_FOLDERS, dir=parent))
    stack.callback(_remove, made)
    lock(made, stack)
    return made


def _remove(folder: Path) -> None:
    """Remove the folder of a Ray that we started, after what still runs of it and would write there.

    Ray's own end forgets processes where its start was interrupted, and does not wait for all others.
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    while time.monotonic() < deadline and (left := _processes(folder)):
        for process in left:
            with suppress(OSError):
                os.kill(int(process), signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def _processes(folder: Path) -> list[str]:
    """Return the processes of the Ray that has its files in a folder; none where the system does not tell.

    Their command lines name it, until they show a title instead, "ray" and what they do.
    """
    found, name = [], os.fsencode(folder)
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # of another user, or ended
            line = (path / "cmdline").read_bytes()
            if name in line or (line.startswith(b"ray") and _writes_to(path, str(folder))):
                found.append(path.name)
    return found


def _writes_to(process: Path, folder: str) -> bool:
    return any(str(file.readlink()).startswith(folder) for file in (process / "fd").iterdir())


def _hold_back_messages(stack: ExitStack) -> None:
    """Keep Ray from printing each death of a worker, which `log_to_driver=False` does not, until `stack` closes."""
    from ray._private import worker

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    stack.callback(setattr, worker, "print_to_stdstream", worker.print_to_stdstream)
    worker.print_to_stdstream = lambda *arguments, **options: None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this program's handler of SIGTERM, which Ray replaces, while it starts, by one that exits."""
    from ray._private import utils

    replacing = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = replacing


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide what Ray warns of: changes of its own defaults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
