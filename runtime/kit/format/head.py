"""What a kit is before a layer is fetched: its manifest and Kitfile, and those of the kits that its model comes from.

A kit whose `model.path` is a reference takes model and parts from that kit, its parent, and nothing else of it:
https://github.com/kitops-ml/kitops/blob/main/pkg/lib/kitfile/resolve.go. That drops format and parameters, which
serving needs: they are inherited like the framework.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

from runtime.kit.format.digest import Digest
from runtime.kit.format.kitfile import Kitfile, ModelEntry
from runtime.kit.format.manifest import Manifest
from runtime.kit.format.modelpack import pack_kitfile
from runtime.kit.format.placing import Placed, place
from runtime.kit.format.reference import Reference


class Head(NamedTuple):
    """One kit. `config` is the Kitfile as the kit has it, byte for byte."""

    reference: Reference
    manifest: Manifest
    config: bytes
    kitfile: Kitfile
    placed: tuple[Placed, ...]

    @classmethod
    def of(cls, reference: Reference, manifest: Manifest, config: bytes) -> Self:
        """Reads the verified `config`. Raises InvalidKitfile."""
        kitfile = pack_kitfile(config, manifest) if manifest.is_pack else Kitfile.parse_json(config, manifest.layers)
        return cls(reference, manifest, config, kitfile, place(kitfile, manifest))


def combined_kitfile(heads: Sequence[Head]) -> Kitfile:
    """Returns what a kit and its parents, the nearest first, say together: of each value the first one there is."""
    kitfile, models = heads[0].kitfile, [head.kitfile.model for head in heads if head.kitfile.model]
    if len(heads) == 1:
        return kitfile
    found = models[-1]
    model = ModelEntry(
        found.path,
        models[0].parent,
        next((each.framework for each in models if each.framework), ""),
        next((each.format for each in models if each.format), ""),
        tuple(part for each in models for part in each.parts),
        next((each.parameters for each in models if each.parameters is not None), None),
        found.digest,
        found.diff_id,
    )
    parents = [entry for head in heads[1:] for entry in head.kitfile.entries if entry[0] in ("model", "part")]
    return kitfile._replace(model=model, entries=(*kitfile.entries, *parents))


def combined_layers(heads: Sequence[Head]) -> tuple[Placed, ...]:
    """Returns all layers of a kit, and those of its parents that belong to its model."""
    parents = (each for head in heads[1:] for each in head.placed if each.section in ("model", "part"))
    return (*heads[0].placed, *parents)


def chain_document(kit: Manifest, parents: Sequence[Head]) -> bytes:
    """Returns the digests of a kit and its parents, a line each: its digest names the tree of a kit with parents."""
    return "\n".join([str(kit.digest), *(str(head.manifest.digest) for head in parents)]).encode()


def chain_digests(document: bytes) -> list[Digest]:
    """Reads what `chain_document` gave; nothing for anything else."""
    try:
        return [Digest.parse(line) for line in document.decode("ascii").split("\n")]
    except ValueError:
        return []
