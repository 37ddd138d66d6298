"""Public keys, and whether one of them made a signature. The only module that imports `cryptography`."""

from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from runtime.errors import InvalidSetting, MissingPackage
from runtime.kit.files import open_plain

_LEAST_RSA_BITS: Final = 2048
_MOST_BYTES: Final = 64 << 10
_ED25519_BYTES: Final = 64

Verify = Callable[[bytes, bytes], object]  # of signature and data; raises InvalidSignature


class Key:
    """The public key in a PEM file, as `cosign generate-key-pair` writes it. Raises InvalidSetting for anything else.

    Nothing in a signature names its algorithm: it is what cosign does with a key of this type.
    """

    def __init__(self, path: Path) -> None:
        if find_spec("cryptography") is None:
            raise MissingPackage.of("signatures", "--verify-key needs the package cryptography")
        self.name = path.name
        self._ways, self._is_ed25519 = _ways(path)

    def made(self, signature: bytes, data: bytes) -> bool:
        """Tells whether this key signed `data`."""
        from cryptography.exceptions import InvalidSignature

        for verify in self._ways:
            with suppress(InvalidSignature):
                verify(signature, data)
                return True
        return False

    def cannot_tell(self, signature: bytes) -> bool:
        """Tells whether a signature that this key has not made may be its own in a form that is not supported.

        That is Ed25519ph (https://www.rfc-editor.org/rfc/rfc8032#section-5.1), which cosign 3 makes with Ed25519 keys.
        """
        return self._is_ed25519 and len(signature) == _ED25519_BYTES


def _ways(path: Path) -> tuple[list[Verify], bool]:
    """Returns in which ways the key may have signed, and whether it is an Ed25519 key."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    key = _read(path)
    if isinstance(key, ec.EllipticCurvePublicKey):

        def ecdsa(kind: hashes.HashAlgorithm) -> Verify:
            return lambda signature, data: key.verify(signature, data, ec.ECDSA(kind))

        longer = {384: [ecdsa(hashes.SHA384())], 521: [ecdsa(hashes.SHA512())]}.get(key.key_size, [])
        return [*longer, ecdsa(hashes.SHA256())], False  # cosign 2 hashes with SHA-256 whatever the curve
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS:
        return [lambda signature, data: key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())], False
    if isinstance(key, ed25519.Ed25519PublicKey):
        return [key.verify], True
    wanted = f"an ECDSA, Ed25519 or RSA key, of at least {_LEAST_RSA_BITS} bits"
    raise InvalidSetting(f"--verify-key {str(path)!r} has a key of another type, wanted {wanted}")


def _read(path: Path) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        with open_plain(path, follow=True) as file:
            return load_pem_public_key(file.read(_MOST_BYTES))
    except OSError as problem:
        raise InvalidSetting(f"--verify-key {str(path)!r} cannot be read: {problem.strerror}") from problem
    except (ValueError, UnsupportedAlgorithm) as problem:
        wanted = "wanted one that begins with -----BEGIN PUBLIC KEY-----"
        raise InvalidSetting(f"--verify-key {str(path)!r} has no public key, {wanted}") from problem
