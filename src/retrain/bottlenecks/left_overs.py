"""What workers of a cluster computed and no store has: of a run that was killed, or that another machine drove."""

import os
from pathlib import Path

from retrain.bottlenecks.computing import FeatureExtractor
from retrain.errors import plural
from retrain.terminal import Terminal

_COMMITS = "commits"  # the folder of `cluster.ledger`


def merge(folder: Path, extractor: FeatureExtractor, terminal: Terminal) -> None:
    """Merge it into the store in a folder, which is made if there is something to merge.

    Raises:
        StoreError: The store, or the folder of the parts, cannot be used.
    """
    dimension = extractor.runner.backbone.dimension
    if extractor.elsewhere is not None:
        count = extractor.elsewhere.merge_left_overs(folder, dimension)
    elif (folder / _COMMITS).is_dir() and os.access(folder, os.W_OK):
        # Imported late: most runs have nothing to do with clusters.
        from retrain.bottlenecks.cluster.ledger import Ledger
        from retrain.bottlenecks.cluster.reducing import merge_left_overs

        count = merge_left_overs(Ledger(folder), folder, dimension)
    else:
        count = 0
    if count:
        terminal.say(f"Merged {plural(count, 'feature vector')} that workers of other runs had computed.")
