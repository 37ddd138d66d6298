"""One signature: the bytes that were signed, and what they say. Pure.

Two forms are read: cosign's own (https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md), and Sigstore's
bundle with an in-toto statement in an envelope (https://github.com/secure-systems-lab/dsse/blob/master/protocol.md).
"""

import base64
import json
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Self

from runtime.errors import InvalidManifest
from runtime.kit.format.digest import Digest
from runtime.kit.format.json_text import read_object

COSIGN_LAYER: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
COSIGN_NOTE: Final = "dev.cosignproject.cosign/signature"
BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_COSIGN_TYPE: Final = "cosign container image signature"
_DSSE_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://sigstore.dev/cosign/sign/v1"


class Signed(NamedTuple):
    """A signature that is not checked yet. `payload` says what was signed."""

    form: Literal["cosign", "dsse"]
    payload: bytes
    signature: bytes

    @classmethod
    def of_bundle(cls, raw: bytes) -> Self:
        """Reads a Sigstore bundle. Raises InvalidManifest for one without a DSSE envelope that has one signature."""
        envelope = read_object(raw, "a signature's bundle", InvalidManifest).get("dsseEnvelope")
        try:
            if envelope["payloadType"] == _DSSE_TYPE:  # type: ignore[index]  # TypeError is what it is here
                (signature,) = envelope["signatures"]  # type: ignore[index]
                return cls("dsse", decoded(envelope["payload"]), decoded(signature["sig"]))  # type: ignore[index]
        except (LookupError, TypeError, ValueError):
            pass
        raise InvalidManifest(f"a signature's bundle has no envelope of the type {_DSSE_TYPE} with one signature")

    @classmethod
    def of_kept(cls, raw: bytes) -> Self | None:
        """Reads what `kept` gave; None for anything else."""
        try:
            form, payload, signature = json.loads(raw)
            return cls(form, decoded(payload), decoded(signature)) if form in ("cosign", "dsse") else None
        except (ValueError, TypeError, RecursionError):
            return None

    def kept(self) -> bytes:
        """Returns it as it is kept in the cache."""
        return json.dumps([self.form, *(base64.b64encode(each).decode() for each in self[1:])]).encode()

    @property
    def data(self) -> bytes:
        """The bytes that the key signed."""
        if self.form == "cosign":
            return self.payload
        return b"DSSEv1 %d %s %d %s" % (len(_DSSE_TYPE), _DSSE_TYPE.encode(), len(self.payload), self.payload)

    def claims(self, digest: Digest) -> Mapping[str, object]:
        """Returns what it says of the manifest `digest` beside its name.

        Raises InvalidManifest if it is about something else, or says something else than that this was signed.
        """
        document = read_object(self.payload, "it", InvalidManifest)
        if self.form == "dsse":
            return _statement_claims(document, digest)
        critical = document.get("critical")
        image = critical.get("image") if isinstance(critical, dict) else None
        if not isinstance(critical, dict) or critical.get("type") != _COSIGN_TYPE or not isinstance(image, dict):
            raise InvalidManifest(f"it is not of the type {_COSIGN_TYPE!r}")
        if (named := image.get("docker-manifest-digest")) != str(digest):
            raise InvalidManifest(f"it is for {_shown(named)}")
        return _map(document.get("optional"))


def decoded(text: object) -> bytes:
    """Returns base64 as bytes. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("no text")  # noqa: TRY004 - as for a text that is no base64
    return base64.b64decode(text, validate=True)


def _statement_claims(document: Mapping[str, object], digest: Digest) -> Mapping[str, object]:
    """Reads an in-toto statement: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md"""
    if (document.get("_type"), document.get("predicateType")) != (_STATEMENT, _PREDICATE):
        raise InvalidManifest(f"it is an attestation ({_shown(document.get('predicateType'))}), no signature")
    subjects = document.get("subject")
    found = [each for each in subjects if isinstance(each, dict)] if isinstance(subjects, list) else []
    digests = [_map(each.get("digest")).get(digest.algorithm) for each in found]
    if digest.hex not in digests:
        raise InvalidManifest(f"it is for {digest.algorithm}:{_shown(next(iter(digests), 'nothing'))}")
    return _map(found[digests.index(digest.hex)].get("annotations"))


def _map(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _shown(value: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(value)[:160])
