from contextlib import ExitStack

from retrain.cluster.opening import ClusterRequest, LazyCluster
from retrain.terminal import Terminal


def test_without_a_task_no_cluster_is_joined():
    with ExitStack() as opened:
        cluster = LazyCluster(ClusterRequest("127.0.0.1:9"), Terminal(quiet=True), opened)
        assert list(cluster.run(lambda cores, shared: print, {}, iter(()))) == []
