"""Runs one command on several machines of a Ray cluster at once, with a TF_CONFIG that names them all.

Ray finds the machines and keeps them free; what runs there is the command. It ends when all have ended, or when one has
failed: then the others are terminated.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Worker:
    """One machine's part, as an actor of Ray; `stop` is called while `run` runs."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: subprocess.Popen[bytes] | None = None

    def address(self) -> str:
        """Return this machine's address with a port that is free now."""
        import ray

        with socket.create_server(("", 0)) as server:
            return f"{ray.util.get_node_ip_address()}:{server.getsockname()[1]}"

    def run(self, words: Sequence[str], folder: str | None, cluster: str) -> int:
        """Run a command with TF_CONFIG in a folder, which is made, and return its exit status."""
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(words, cwd=folder, env={**os.environ, "TF_CONFIG": cluster})
        return self._process.wait()

    def stop(self) -> None:
        """Terminate the command if it runs."""
        if self._process is not None:
            self._process.terminate()


def run(workers: Sequence[Any], words: Sequence[str], folder: str | None) -> int:
    """Run a command on all workers (handles of `Worker`), and return the first exit status that is not 0, or 0."""
    import ray

    addresses = ray.get([worker.address.remote() for worker in workers])
    print(f"Workers: {', '.join(addresses)}", flush=True)
    running = []
    for index, worker in enumerate(workers):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        running.append(worker.run.remote(words, folder, json.dumps(task)))
    left = list(running)
    while left:
        [ended], left = ray.wait(left)
        try:
            status = ray.get(ended)
        except ray.exceptions.RayError as error:  # the machine is gone
            print(f"Worker {running.index(ended)}: {str(error).splitlines()[0]}", file=sys.stderr)
            status = 1
        if status:
            print(f"Worker {running.index(ended)} ended with exit status {status}.", file=sys.stderr)
            ray.get([worker.stop.remote() for worker, one in zip(workers, running, strict=True) if one in left])
            if left:
                ray.wait(left, num_returns=len(left), timeout=30)
            return int(status)
    return 0


def main() -> None:
    """Parse the flags, wait for as many machines as asked for, and run the command on them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--address", default="auto", help="of the Ray cluster (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="machines (default: %(default)s)")
    parser.add_argument("--cpus", type=float, default=1, help="cores to reserve on each (default: %(default)g)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs to reserve on each (default: %(default)g)")
    parser.add_argument("--folder", help="where to run the command on each machine; is made (default: Ray's own)")
    parser.add_argument("command", nargs="+", help="what to run, after --")
    args = parser.parse_args()
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    ray.init(args.address)
    reserved = {"CPU": args.cpus} | ({"GPU": args.gpus} if args.gpus else {})
    group = ray.util.placement_group([reserved] * args.workers, strategy="STRICT_SPREAD")
    ray.get(group.ready())
    start = ray.remote(Worker).options
    workers = [
        start(
            num_cpus=args.cpus,
            num_gpus=args.gpus,
            max_concurrency=2,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
        ).remote()
        for index in range(args.workers)
    ]
    sys.exit(run(workers, args.command, args.folder))


if __name__ == "__main__":
    main()
