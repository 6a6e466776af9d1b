"""What scripts/cluster gives to SLURM, Ray and Kubernetes is well-formed, and runs flags that exist."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT
from ray_nodes import ray_nodes

from retrain.cli.flags import retrain_parser

FOLDER = ROOT / "scripts" / "cluster"
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # sockets of Ray
OPTIONS = {option for action in retrain_parser()._actions for option in action.option_strings}


def documents(name):
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def flags_of(words):
    assert words[0] == "retrain"
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def pod_templates(document):
    """Yield the pod templates of a RayJob or a Job."""
    if document["kind"] == "RayJob":
        cluster = document["spec"]["rayClusterSpec"]
        yield from (group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]))
    elif document["kind"] == "Job":
        yield document["spec"]["template"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_manifests_follow_the_schemas_of_kubernetes(path):
    validator = pytest.importorskip("kubernetes_validate")
    for document in documents(path.name):
        if document["kind"] == "RayJob":  # KubeRay's kind: what it makes are pods
            for template in pod_templates(document):
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}
                validator.validate(pod, "1.33", strict=True)
        else:
            validator.validate(document, "1.33", strict=True)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_manifests_name_what_they_use(path):
    found = documents(path.name)
    claims = {document["metadata"]["name"] for document in found if document["kind"] == "PersistentVolumeClaim"}
    for template in (template for document in found for template in pod_templates(document)):
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        used = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes.values()}
        assert used <= claims | {"photos"}  # which are there before
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= set(volumes)


def test_the_ray_job_runs_flags_that_exist():
    [job] = [document for document in documents("kubernetes_ray.yaml") if document["kind"] == "RayJob"]
    assert flags_of(shlex.split(job["spec"]["entrypoint"])) - OPTIONS == set()


def test_the_pods_of_the_indexed_job_name_each_other():
    service, job = documents("kubernetes_workers.yaml")[:2]
    template, name = job["spec"]["template"]["spec"], job["metadata"]["name"]
    [container] = template["containers"]
    assert flags_of(container["command"]) - OPTIONS == set()
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    port = service["spec"]["ports"][0]["port"]
    for index in range(job["spec"]["completions"]):
        told = json.loads(variables["TF_CONFIG"].replace("$(WORKER)", str(index)))
        assert told["task"] == {"type": "worker", "index": index}
        assert told["cluster"]["worker"][index] == f"{name}-{index}.{template['subdomain']}:{port}"
    assert len(told["cluster"]["worker"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert template["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"]["batch.kubernetes.io/job-name"] == name


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.stem)
def test_batch_scripts_parse_and_run_flags_that_exist(path):
    subprocess.run(["bash", "-n", path], check=True)
    [words] = re.findall(r"^[^#\n]*?\bretrain (--.*?)\"\$@\"", path.read_text(), re.M)
    assert set(re.findall(r"--\w+", words)) - OPTIONS == set()
    assert os.access(path, os.X_OK)


COMMAND = "import os, pathlib; print('told', os.environ['TF_CONFIG'], pathlib.Path.cwd(), flush=True)"

FAILS = """
import json, os, sys, time
if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0:
    time.sleep(99)
sys.exit(5)
"""


@pytest.fixture(scope="module")
def two_nodes():
    """Return the environment in which a Ray of two nodes is found."""
    pytest.importorskip("ray")
    with ray_nodes((1, 1)) as nodes:
        yield {**os.environ, "RAY_ADDRESS": nodes.address}


def on_ray(two_nodes, *words, folder):
    return subprocess.run(
        [sys.executable, FOLDER / "ray_workers.py", f"--folder={folder}", "--", *words],
        env=two_nodes,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_ray_workers_run_a_command_on_each_machine_and_name_all_to_each(two_nodes, tmp_path):
    done = on_ray(two_nodes, sys.executable, "-c", COMMAND, folder=tmp_path / "new")
    assert done.returncode == 0, done.stderr
    told = [json.loads(found) for found in re.findall(r"told (\{.*\})", done.stdout + done.stderr)]
    assert sorted(each["task"]["index"] for each in told) == [0, 1]
    [addresses] = {tuple(each["cluster"]["worker"]) for each in told}
    assert f"Workers: {', '.join(addresses)}" in done.stdout
    assert str(tmp_path / "new") in done.stdout + done.stderr


@pytest.mark.slow
def test_one_worker_that_fails_ends_the_others(two_nodes, tmp_path):
    done = on_ray(two_nodes, sys.executable, "-c", FAILS, folder=tmp_path)
    assert done.returncode == 5
    assert "Worker 1 ended with exit status 5." in done.stderr
