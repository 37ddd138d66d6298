"""A reference to manifest and Kitfile, and on to those of its parents; from then on all blobs go by digest."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Final

from runtime.errors import (
    Failure,
    InvalidKitfile,
    InvalidManifest,
    InvalidReference,
    InvalidSetting,
    NoModel,
    NotSigned,
)
from runtime.kit.format.head import Head
from runtime.kit.format.index import selected
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Descriptor, Manifest
from runtime.kit.format.reference import Reference
from runtime.kit.lane import Take
from runtime.kit.source import PullOptions, RegistrySource
from runtime.kit.threads import Threads

if TYPE_CHECKING:
    from runtime.kit.disk.layout import LayoutSource
    from runtime.kit.format.digest import Digest
    from runtime.kit.signature.policy import Policy

    Source = RegistrySource | LayoutSource

MOST_PARENTS: Final = 10  # as for Kit


class Chain:
    """A kit and its parents, the nearest first, and a source for the blobs of all."""

    def __init__(self, options: PullOptions, threads: Threads) -> None:
        self._options, self._threads = options, threads
        self._sources: list[Source] = []
        self._by_blob: dict[Digest, Source] = {}
        self._has_selected = False
        self.signer: str | None = None  # the key that signed the kit itself
        self._policy = _policy(options)
        self.heads: list[Head] = []

    def read(self, reference: Reference, found: Callable[[Head], None]) -> None:
        """Reads a kit and its parents; `found` is told of the kit itself. Raises what sources raise, InvalidKitfile."""
        self._add(reference)
        found(self.heads[0])
        self._add_parents()

    def read_parents(self, child: Head, source: "Source") -> None:
        """Reads the parents of a kit that was read elsewhere. Raises as `read` does."""
        self._keep(child, source)
        self._add_parents()

    def _add_parents(self) -> None:
        while (model := self.heads[-1].kitfile.model) and model.parent:
            self._add_parent(model.parent)
        if self._options.select and not self._has_selected:
            raise InvalidSetting(f"--select is for an index of several kits, but {self.heads[0].reference} is one kit")
        first, last = self.heads[0], self.heads[-1]
        if len(self.heads) > 1 and (last.kitfile.model is None or last.kitfile.model.path is None):
            raise NoModel(f"{first.reference} takes its model from another kit, {last.reference}, which has none")

    def blob(self, descriptor: Descriptor, reached: Callable[[int], None]) -> BinaryIO:
        """Opens a blob, checked, as `RegistrySource.blob` does."""
        return self._by_blob[descriptor.digest].blob(descriptor, reached)

    def holds(self, descriptor: Descriptor) -> bool:
        """Tells whether a blob is here, right or wrong."""
        return self._by_blob[descriptor.digest].holds(descriptor)

    def stream(self, descriptor: Descriptor, take: Take, *, keep: bool) -> None:
        """Hands the bytes of a blob to `take`, as `RegistrySource.stream` does."""
        self._by_blob[descriptor.digest].stream(descriptor, take, keep=keep)

    def close(self) -> None:
        """Closes all connections."""
        for source in self._sources:
            source.close()

    def _add_parent(self, text: str) -> None:
        child = self.heads[-1].reference
        subject = f"{child} takes its model from another kit, {text[:160]!r}"
        if len(self.heads) > MOST_PARENTS:
            raise InvalidKitfile(f"{subject}, and is itself the parent number {MOST_PARENTS}: no more are followed")
        try:
            parent = Reference.of_parent(text)
            _check_origin(child, parent, plain_http=self._options.plain_http)
            self._add(parent)
        except InvalidReference as problem:
            raise InvalidKitfile(f"{subject}, which cannot be: {problem}") from problem
        except Failure as problem:
            raise type(problem)(f"{subject}, which cannot be had: {problem}") from problem
        digests = [head.manifest.digest for head in self.heads]
        if digests[-1] in digests[:-1]:
            names = " → ".join(str(head.reference) for head in self.heads)
            raise InvalidKitfile(f"{self.heads[0].reference} takes its model from itself in the end: {names}")
        if parent.digest is None:
            found = self.heads[-1].reference
            reason = "the parent is named by a tag, which may move: name it by its digest to pin the model"
            self._threads.warn("parent.by_tag", reference=str(child), parent=str(found), reason=reason)

    def _add(self, reference: Reference) -> None:
        source = self._open(reference)
        self._sources.append(source)
        found, raw = source.resolve(reference)
        assert found.digest is not None  # that is what resolving is
        digests = [found.digest]
        if digest := selected(raw, str(found), self._options.select):
            # without the tag, which stands for all kits of the index
            found, raw = source.resolve(replace(reference, tag=None, digest=digest))
            self._has_selected = True
            digests.append(digest)
        manifest = Manifest.parse(raw, expected=found.digest, subject=str(found))
        is_named_by_child = bool(self.heads) and reference.digest is not None  # and so by the child's signature
        if self._policy and not is_named_by_child:
            self._check_signer(self._policy, source, found, digests)
        config = manifest.config
        if config.size > MAX_DOCUMENT_BYTES:
            seen = f"has {config.size} bytes, at most {MAX_DOCUMENT_BYTES} are read"
            raise InvalidManifest(f"the config {config.digest} {seen}")
        with source.blob(config, lambda _: self._threads.check()) as file:
            self._keep(Head.of(found, manifest, file.read()), source)

    def _keep(self, head: Head, source: "Source") -> None:
        self.heads.append(head)
        for layer in head.manifest.layers:
            self._by_blob.setdefault(layer.descriptor.digest, source)

    def _check_signer(self, policy: "Policy", source: "Source", found: Reference, digests: "list[Digest]") -> None:
        try:
            signer = policy.signer(source, source.store, str(found), digests)
        except NotSigned as problem:
            if self._options.must_be_signed:
                raise
            self._threads.warn("kit.not_signed", reference=str(found), reason=str(problem))
        else:
            self.signer = self.signer if self.heads else signer

    def _open(self, reference: Reference) -> "Source":
        if reference.kind == "registry":
            is_named = not self.heads or self.heads[0].reference.registry == reference.registry
            return RegistrySource(reference, self._options, self._threads, is_named=is_named)
        if reference.kind == "store":
            from runtime.kit.disk.store import open_store

            return open_store(reference)
        from runtime.kit.disk.layout import open_source

        return open_source(reference)


def _policy(options: PullOptions) -> "Policy | None":
    if not options.verify_keys:
        return None
    from runtime.kit.signature.policy import Policy

    return Policy(options.verify_keys, options.verify_claims)


def _check_origin(child: Reference, parent: Reference, *, plain_http: bool) -> None:
    """Refuses a parent on this machine or its link for a kit from a registry elsewhere."""
    if child.kind == parent.kind == "registry":
        from runtime.kit.registry.origin import inside_refusal, registry_origin

        origins = (registry_origin(each.registry, plain_http=plain_http) for each in (child, parent))
        if refusal := inside_refusal(*origins, private_allowed=True):
            raise InvalidReference(refusal)
