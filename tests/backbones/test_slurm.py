"""The workers of a SLURM step are read from the variables that srun sets."""

import os
import subprocess
import sys

import pytest

from retrain.backbones import slurm
from retrain.errors import UsageError

# As SLURM 22.05 set them on two machines.
TWO = {
    **{"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"},
    **{"SLURM_JOB_ID": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NODEID": "1"},
}


def hosts(step):
    return [address.rpartition(":")[0] for address in step.addresses]


def ports(step):
    return [int(address.rpartition(":")[2]) for address in step.addresses]


def test_every_task_of_a_step_sees_the_same_workers_and_itself():
    steps = [slurm.step({**TWO, "SLURM_PROCID": number, "SLURM_NODEID": number}) for number in "01"]
    assert [step.rank for step in steps] == [0, 1]
    assert steps[0].addresses == steps[1].addresses
    assert hosts(steps[0]) == ["n1", "n2"]


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ("n[9-10]", ["n9", "n10"]),
        ("n[08-10],gpu3", ["n08", "n09", "n10", "gpu3"]),
        ("r[1-2]n[1,3].lan", ["r1n1.lan", "r1n3.lan", "r2n1.lan", "r2n3.lan"]),
        ("a-1,b-2", ["a-1", "b-2"]),
    ],
)
def test_machines_keep_the_order_of_slurm(nodes, names):
    told = {"SLURM_STEP_NODELIST": nodes, "SLURM_STEP_NUM_TASKS": str(len(names))}
    step = slurm.step({**TWO, **told, "SLURM_STEP_TASKS_PER_NODE": f"1(x{len(names)})"})
    assert hosts(step) == names


def test_tasks_on_one_machine_have_ports_of_their_own():
    step = slurm.step({**TWO, "SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_TASKS_PER_NODE": "3,2", "SLURM_PROCID": "3"})
    assert hosts(step) == ["n1", "n1", "n1", "n2", "n2"]
    assert len(set(step.addresses)) == 5
    assert all(1024 < port < 32768 for port in ports(step))


def test_jobs_and_steps_have_ports_of_their_own():
    told = [{"SLURM_JOB_ID": "2"}, {"SLURM_JOB_ID": "3"}, {"SLURM_STEP_ID": "1"}, {"SLURM_JOB_ID": "67108863"}]
    assert len({port for each in told for port in ports(slurm.step({**TWO, **each}))}) == len(told)


@pytest.mark.parametrize("told", [{}, {"SLURM_PROCID": "0"}, {**TWO, "SLURM_STEP_NUM_TASKS": "1"}])
def test_a_process_alone_is_no_step_of_several(told):
    assert slurm.step(told) is None


@pytest.mark.parametrize(
    "told",
    [
        {"SLURM_NODEID": "0"},  # --distribution=cyclic
        {"SLURM_STEP_NUM_TASKS": "3"},
        {"SLURM_STEP_NODELIST": "n[1-2"},
        {"SLURM_STEP_NODELIST": "n1,n2,"},
        {"SLURM_STEP_NODELIST": "n[1-]"},
        {"SLURM_STEP_TASKS_PER_NODE": "1x2"},
        {"SLURM_STEP_TASKS_PER_NODE": "2"},
        {"SLURM_PROCID": "2"},
        {"SLURM_PROCID": "first"},
        {"SLURM_STEP_NUM_TASKS": "two"},
    ],
)
def test_variables_that_contradict_each_other_are_bad_usage(told):
    with pytest.raises(UsageError) as raised:
        slurm.step({**TWO, **told})
    assert "\n" not in str(raised.value)


def test_a_missing_variable_is_named():
    told = {name: value for name, value in TWO.items() if name != "SLURM_NODEID"}
    with pytest.raises(UsageError, match="SLURM_NODEID"):
        slurm.step(told)


WORKER = """
import os
import tensorflow as tf
from retrain.backbones import devices
from retrain.errors import TrainingError
strategy = devices.strategy("multi_worker")
number = int(devices.worker_suffix(strategy).rpartition("_")[2])
same, different = devices.all_replicas_agree(strategy, 7), devices.all_replicas_agree(strategy, number)
print(strategy.num_replicas_in_sync, number, devices.is_chief(strategy), same, different)
try:
    with devices.missing_workers(strategy):
        raise tf.errors.UnavailableError(None, None, "Socket closed")  # as TensorFlow does where a worker was killed
except TrainingError as error:
    print(error, flush=True)
os._exit(0)  # TensorFlow takes ten seconds to end
"""


@pytest.mark.slow
def test_the_tasks_of_a_step_find_each_other_and_say_when_one_is_gone():
    told = {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0"}
    others = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env={**others, **TWO, **told, "SLURM_JOB_ID": str(os.getpid()), "SLURM_PROCID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [task.communicate(timeout=120) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    found, gone = zip(*(printed.splitlines() for printed, _ in outputs), strict=True)
    assert found == ("2 0 True True False", "2 1 False True False")
    assert all(line.startswith("Another worker has ended or cannot be reached. ") for line in gone)
