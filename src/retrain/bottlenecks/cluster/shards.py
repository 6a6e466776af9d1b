"""Cuts what has to be computed into shards: consecutive photos of one class folder, named by the hash of their inputs.

Where a shard ends follows from the sorted listing of its folder alone, so that new photos in other folders change no
other shard: a run that was killed finds what its workers have done under the same names.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from retrain.bottlenecks.computing import FeatureExtractor
from retrain.data.variants import Variant, VariantColumns
from retrain.storage import chunks
from retrain.storage.stamps import Stamp

PHOTOS = 1000  # of a folder, of which a shard holds those that the store lacks
_VARIANTS = 8000  # in a shard, about: distorted copies make parts large


@dataclass(frozen=True)
class Shard:
    """Variants of photos, those of one photo side by side, with the stamp of each one's file, None where it is gone.

    `id` follows from all that their bottlenecks follow from, and from where the photos are.
    """

    id: str
    variants: VariantColumns
    stamps: Sequence[Stamp | None]

    @property
    def name(self) -> str:
        """Return what people call it: its first and its last photo."""
        first, last = self.variants.paths[0], self.variants.paths[-1]
        return first if first == last else f"{first} to {last}"


def cut(paths: Iterable[str], todo: Sequence[int], *, depth: int) -> Iterator[list[int]]:
    """Yield the indices of `todo`, ascending, shard by shard.

    Args:
        paths: Of all variants, whether or not they have to be computed: folder by folder, each sorted.
        todo: Indices of paths.
        depth: How many folders lead to the photos of a class: 1, or 2 where a split is ready-made.
    """
    wanted = iter(todo)
    due = next(wanted, None)
    part: list[int] = []
    folder, last, number = [""], "", 0
    for index, path in enumerate(paths):
        if due is None:
            break
        if path != last:
            above = path.split("/", depth)[:depth]
            number, folder, last = number + 1 if above == folder else 0, above, path
            if part and (number % PHOTOS == 0 or len(part) >= _VARIANTS):
                yield part
                part = []
        if index == due:
            part.append(index)
            due = next(wanted, None)
    if part:
        yield part


def shard_of(
    variants: Sequence[Variant], extractor: FeatureExtractor, store: str, stamp: Callable[[str], Stamp | None]
) -> Shard:
    """Return the shard of some variants.

    Args:
        variants: Those of one photo side by side.
        extractor: Says where the photos are, and what their variants are called.
        store: The name of the store's folder, which is a fingerprint of the network, its engine and its precision.
        stamp: Returns the stamp of the file at a path.
    """
    columns = VariantColumns([variant.path for variant in variants], [variant.copy for variant in variants])
    of_path = {path: stamp(path) for path in dict.fromkeys(columns.paths)}
    stamps = [of_path[path] for path in columns.paths]
    names = (extractor.index_name(variant) for variant in columns)
    settings = [store, str(extractor.image_dir.resolve())]
    return Shard(chunks.id_of(settings, zip(names, stamps, strict=True)), columns, stamps)
