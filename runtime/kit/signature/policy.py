"""What an operator wants of signatures, and whether a kit has it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from runtime.errors import InvalidManifest, NotSigned
from runtime.kit.format.digest import Digest
from runtime.kit.signature.keys import Key
from runtime.kit.signature.search import Attached, signatures
from runtime.kit.signature.signed import Signed


class Kept(Protocol):
    """Where a signature is kept for a start without a registry."""

    def signature(self, digest: Digest) -> bytes | None:
        """Returns what was kept last for a manifest; or None."""

    def keep_signature(self, digest: Digest, data: bytes) -> None:
        """Keeps it."""


class Policy:
    """One of `keys` has signed the kit, and its signature makes all of the `claims`. Raises InvalidSetting."""

    def __init__(self, keys: Sequence[Path], claims: Sequence[tuple[str, str]]) -> None:
        self._keys, self._claims = [Key(path) for path in keys], claims

    def signer(self, source: Attached, kept: Kept | None, subject: str, digests: Sequence[Digest]) -> str:
        """Returns the name of the key that signed one of the manifests: the kit's, or that of the index it is in.

        Raises NotSigned with what is wrong with the signatures that there are, and what the source raises.
        """
        faults: dict[str, None] = {}  # each once, in order
        for digest in digests:
            for signed, is_new in _candidates(source, kept, digest):
                try:
                    signer = self._signer(signed, digest)
                except InvalidManifest as problem:
                    faults[str(problem)] = None
                else:
                    if kept and is_new:
                        kept.keep_signature(digest, signed.kept())
                    return signer
        names = ", ".join(key.name for key in self._keys)
        if faults:
            raise NotSigned(f"{subject} is not signed as --verify-key {names} wants: {'; '.join(faults)}")
        raise NotSigned(f"{subject} is not signed: {digests[-1]} has no signature; sign it with cosign, wanted {names}")

    def _signer(self, signed: Signed, digest: Digest) -> str:
        """Returns the name of the key. Raises InvalidManifest with what is wrong."""
        key = next((key for key in self._keys if key.made(signed.signature, signed.data)), None)
        if key is None:
            if any(key.cannot_tell(signed.signature) for key in self._keys):
                raise InvalidManifest("a signature is another key's, or in the form Ed25519ph, which is not supported")
            raise InvalidManifest("a signature is another key's")
        try:
            said = signed.claims(digest)
        except InvalidManifest as problem:
            raise InvalidManifest(f"{key.name} has signed something else: {problem}") from problem
        for name, wanted in self._claims:
            if said.get(name) != wanted:
                seen = f"{name}={said[name]}" if name in said else f"nothing of {name}"
                raise InvalidManifest(f"the signature of {key.name} says {seen}, wanted {name}={wanted}")
        return key.name


def _candidates(source: Attached, kept: Kept | None, digest: Digest) -> Iterator[tuple[Signed, bool]]:
    """Yields the signature that was kept, and then, if that does not do, those that the source has."""
    if kept and (raw := kept.signature(digest)) and (signed := Signed.of_kept(raw)):
        yield signed, False
    yield from ((signed, True) for signed in signatures(source, digest))
