import hashlib

import pytest

from runtime.errors import DigestMismatch, SizeMismatch
from runtime.kit.format.digest import Digest, DigestCheck

SHA256 = "sha256:" + "0f" * 32
SHA512 = "sha512:" + "0f" * 64

BAD = {
    "empty": ("", "a digest is written sha256: and 64 hexadecimal digits"),
    "no-colon": ("0f" * 32, "a digest is written sha256: and 64 hexadecimal digits"),
    "unknown-algorithm": ("blake3:" + "0f" * 32, "the algorithm 'blake3' is not supported, sha256 and sha512 are"),
    "upper-case-algorithm": ("SHA256:" + "0f" * 32, "the algorithm 'SHA256' is not supported, sha256 and sha512 are"),
    "long-algorithm": ("x" * 99 + ":0f", f"the algorithm '{'x' * 32}…' is not supported, sha256 and sha512 are"),
    "short": ("sha256:0f", "sha256 has 64 hexadecimal digits, this one 2"),
    "long": (SHA256 + "0", "sha256 has 64 hexadecimal digits, this one 65"),
    "other-length": ("sha512:" + "0f" * 32, "sha512 has 128 hexadecimal digits, this one 64"),
    "upper-case": ("sha256:" + "0F" * 32, "sha256 is written in the digits 0-9 and a-f, lower case"),
    "traversal": ("sha256:" + "../" * 21 + "a", "sha256 is written in the digits 0-9 and a-f, lower case"),
    "newline": ("sha256:" + "0f" * 31 + "0\n", "sha256 is written in the digits 0-9 and a-f, lower case"),
    "other-digits": ("sha256:" + "٣" * 64, "sha256 is written in the digits 0-9 and a-f, lower case"),
}


@pytest.mark.parametrize("text", [SHA256, SHA512])
def test_a_digest_prints_back_to_itself(text: str) -> None:
    assert str(Digest.parse(text)) == text
    assert Digest.parse(text).blob_path == f"blobs/{text.replace(':', '/')}"


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_39_a_bad_digest_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared below
        Digest.parse(text)
    assert str(caught.value) == message


def test_a_digest_cannot_be_built_unchecked() -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Digest("sha256", "../../etc/passwd")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_bytes_are_compared_with_a_digest_while_they_come(algorithm: str) -> None:
    wanted = Digest(algorithm, hashlib.new(algorithm, b"kit").hexdigest())
    check = DigestCheck(wanted, 3, "it")
    for piece in (b"k", b"", b"it"):
        check.update(piece)
    check.finish()
    assert check.taken_bytes == 3
    assert Digest.of(b"kit", algorithm) == wanted


def test_bytes_that_differ_are_refused_in_one_line() -> None:
    wanted = Digest.of(b"kit")
    check = DigestCheck(wanted, None, "it", "; ask again")
    check.update(b"kitten")
    with pytest.raises(DigestMismatch) as caught:
        check.finish()
    assert str(caught.value) == f"it has digest {Digest.of(b'kitten')}, wanted {wanted}; ask again"


def test_a_byte_too_many_is_refused_when_it_comes_and_one_too_few_at_the_end() -> None:
    check = DigestCheck(Digest.of(b"kit"), 3, "it")
    check.update(b"ki")
    with pytest.raises(SizeMismatch, match=r"^it has 2 bytes, wanted 3$"):
        check.finish()
    with pytest.raises(SizeMismatch, match=r"^it has more than the 3 bytes wanted$"):
        check.update(b"ts")
    with pytest.raises(SizeMismatch, match=r"^it has 9 bytes, wanted 3$"):
        check.check_size(9)


def test_of_is_the_sha256_of_the_bytes() -> None:
    assert str(Digest.of(b"kit")) == "sha256:" + hashlib.sha256(b"kit").hexdigest()
