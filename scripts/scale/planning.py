"""Plans clusters: how long, and for how many dollars, photos take on so many nodes, from what was measured on one."""

from dataclasses import dataclass

import numpy as np
from scripts.scale.figures import Figures, draw_shards
from scripts.scale.simulation import Driver, Fleet, Timeline, simulate

from retrain.bottlenecks.cluster.shards import PHOTOS
from retrain.cluster.nodes import groups


@dataclass(frozen=True)
class Assumptions:
    """What no machine measures: where and how photos lie, what nodes do, and what they cost; a flag each.

    Attributes:
        folders: Class folders, of equally many photos.
        listers: Pages of a listing that are asked for at once.
        round_trip: Seconds that a request takes more than one to a server on this machine.
        cores_per_node: As it says.
        slow_share: Of nodes, which take `slowdown` times as long.
        slowdown: See `slow_share`.
        losses_per_hour: How often a node is lost.
        seconds_to_replace: Until another one is there.
        dollars_per_core_hour: The price of a core.
    """

    folders: int
    listers: int
    round_trip: float
    cores_per_node: int
    slow_share: float
    slowdown: float
    losses_per_hour: float
    seconds_to_replace: float
    dollars_per_core_hour: float


@dataclass(frozen=True)
class Plan:
    """A simulated computation.

    Attributes:
        photos: How many there were.
        nodes: How many there were.
        timeline: What happened.
        computing: Share of the cores' time, as it is paid, in which they decoded photos and ran the network.
        dollars: For the nodes until the last commit; the driver's machine is extra.
    """

    photos: int
    nodes: int
    timeline: Timeline
    computing: float
    dollars: float

    @property
    def limit(self) -> str:
        """Return what the computation waited for most: the driver's work, the listing, or the workers."""
        last = float(self.timeline.commits[-1])
        if self.timeline.driving > 0.9 * last or self.timeline.merged > 1.1 * last:
            return "driver"
        return "listing" if self.timeline.listed > 0.9 * last else "workers"


def plan(photos: int, nodes: int, figures: Figures, assumed: Assumptions, seed: int = 0) -> Plan:
    """Return what a cluster does with photos whose numbers in a folder are multiples of a page, or smaller."""
    rng = np.random.default_rng(seed)
    each = photos // assumed.folders
    pages = -(-each // PHOTOS)
    seconds = draw_shards(figures, pages * assumed.folders, groups(assumed.cores_per_node)[0], rng, assumed.round_trip)
    seconds *= each / (pages * PHOTOS)  # of folders whose last page is not full
    fleet = Fleet(
        nodes,
        assumed.cores_per_node,
        opening=figures.opening,
        slow=assumed.slow_share,
        slowdown=assumed.slowdown,
        losses=assumed.losses_per_hour,
        replacing=assumed.seconds_to_replace,
    )
    driver = Driver(figures.answer + assumed.round_trip, assumed.listers, figures.page, figures.cut, figures.merge)
    timeline = simulate([pages] * assumed.folders, seconds, fleet, driver, rng)
    core_seconds = timeline.paid * assumed.cores_per_node
    computing = photos * float(np.mean(figures.computing)) / core_seconds
    return Plan(photos, nodes, timeline, computing, core_seconds / 3600 * assumed.dollars_per_core_hour)


HEAD = (
    "| photos | nodes | time | first vectors | listed after | cores compute | commits/s, mean (peak) | driver busy, of "
    "that merging | not merged at the last commit | shards repeated | dollars | waits for |\n" + "|---" * 12 + "|"
)


def row(plan: Plan) -> str:
    """Return a plan as a row of a table."""
    line, last = plan.timeline, float(plan.timeline.commits[-1])
    cells = [
        f"{plan.photos / 1e6:g} M",
        f"{plan.nodes:,}",
        _time(line.merged),
        _time(line.first),
        _time(line.listed),
        f"{plan.computing:.0%}",
        f"{len(line.commits) / last:.3g} ({line.commits_per_second():.3g})",
        f"{line.driving / last:.0%}, {line.merging / last:.0%}",
        f"{line.backlog:,}",
        f"{line.repeated:,}",
        f"{plan.dollars:,.2f}",
        plan.limit,
    ]
    return f"| {' | '.join(cells)} |"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
