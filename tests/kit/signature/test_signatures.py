"""Kits that the real cosign signed, and those that nobody, somebody else or nobody for this kit signed."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import runtime
from runtime.errors import InvalidSetting, MissingPackage, NotFound, NotSigned
from runtime.kit.format.reference import Reference
from runtime.kit.pull import PullOptions, resolve
from runtime.settings import Settings
from tests.commands.forked import run
from tests.kit.made import made_kit, named, put
from tests.kit.pulling import Recorder, pulled
from tests.kit.test_chain import kit_with_parent
from tests.lying_registry import LyingRegistry, other
from tests.places import KITS
from tests.registries import digest_of

Lying = Callable[..., LyingRegistry]

SIGNED = KITS / "signed"
COSIGN = SIGNED / "keys/cosign.pub"
EXPECTED = json.loads((SIGNED / "expected.json").read_bytes())
VERDICTS = [(layout, key, verdict) for layout, each in EXPECTED.items() for key, verdict in each["verdict"].items()]
SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all layouts of signed kits; their blobs are the same files."""
    folder = tmp_path_factory.mktemp("signed")
    for source in (KITS / "iris-onnx/blobs", SIGNED / "blobs"):
        shutil.copytree(source, folder / "blobs", dirs_exist_ok=True)
    for index in SIGNED.glob("*/index.json"):
        layout = folder / index.parent.name
        layout.mkdir()
        shutil.copy(index, layout)
        (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (layout / "blobs").symlink_to(folder / "blobs")
    return folder


def checked(reference: str, cache: Path, *keys: Path, watch: Recorder | None = None, **options: object) -> str | None:
    """Resolves a reference; gives the name of the key that signed it."""
    wanted = PullOptions(cache, verify_keys=keys or (COSIGN,), **{"retry_budget_seconds": 0.1, **options})
    return resolve(Reference.parse(reference), wanted, watch or Recorder()).signer


@pytest.mark.parametrize(("layout", "key", "verdict"), VERDICTS)
def test_48_the_verdict_about_each_golden_layout(
    layout: str, key: str, verdict: str, layouts: Path, tmp_path: Path
) -> None:
    reference, path = f"oci:{layouts / layout}:v1", SIGNED / "keys" / key
    if verdict == "accept":
        assert checked(reference, tmp_path, path) == key
    else:  # what may be accepted is not: Ed25519ph, and the experimental form of referrers
        with pytest.raises(NotSigned):
            checked(reference, tmp_path, path)


@pytest.mark.parametrize(
    ("layout", "key", "said"),
    [
        ("wrong-key", "cosign", "a signature is another key's"),
        ("tampered", "cosign", "cosign.pub has signed something else: it is for sha256:a26153d8"),
        ("tampered-bundle", "cosign", "cosign.pub has signed something else: it is for sha256:a26153d8"),
        ("attested", "cosign", r"it is an attestation \(https://slsa.dev/provenance/v1\), no signature"),
        ("other-type", "cosign", "cosign.pub has signed something else: it is not of the type 'cosign container"),
        ("key-types", "ed25519", "in the form Ed25519ph, which is not supported"),
        ("oci11", "cosign", "is not signed: sha256:44b4f1ec6a44.* has no signature"),
    ],
)
def test_a_refusal_says_what_is_wrong(layout: str, key: str, said: str, layouts: Path, tmp_path: Path) -> None:
    with pytest.raises(NotSigned, match=said):
        checked(f"oci:{layouts / layout}:v1", tmp_path, SIGNED / f"keys/{key}.pub")


def test_one_of_several_keys_is_enough(layouts: Path, tmp_path: Path) -> None:
    keys = [SIGNED / f"keys/{name}.pub" for name in ("rsa", "other", "cosign")]
    assert checked(f"oci:{layouts}/wrong-key:v1", tmp_path, *keys) == "other.pub"
    assert checked(f"oci:{layouts}/mixed:v1", tmp_path, *keys) == "cosign.pub"


def test_48_a_signature_has_to_say_what_is_wanted_of_it(layouts: Path, tmp_path: Path) -> None:
    reference = f"oci:{layouts}/with-claims:v1"
    assert checked(reference, tmp_path, verify_claims=(("env", "prod"), ("team", "ml")))
    with pytest.raises(NotSigned, match=r"the signature of cosign\.pub says env=prod, wanted env=dev"):
        checked(reference, tmp_path, verify_claims=(("env", "dev"),))
    with pytest.raises(NotSigned, match="says nothing of version, wanted version=2"):  # an older kit under a new tag
        checked(reference, tmp_path, verify_claims=(("version", "2"),))


# --- over HTTP


@pytest.mark.parametrize("layout", ["tampered", "wrong-key", "attested"])
def test_48_no_byte_of_a_kit_that_is_not_signed_is_asked_for(
    layout: str, lying: Lying, layouts: Path, tmp_path: Path
) -> None:
    registry = lying(layouts / layout)
    with pytest.raises(NotSigned):
        pulled(f"{registry.host}/kits/iris:v1", tmp_path, verify_keys=(COSIGN,))
    manifest = json.loads((layouts / "blobs" / EXPECTED[layout]["kit"].replace(":", "/")).read_bytes())
    asked = {seen.path.rpartition("/")[2] for seen in registry.seen("/blobs/")}
    assert asked.isdisjoint(each["digest"] for each in [manifest["config"], *manifest["layers"]])


@pytest.mark.parametrize("layout", ["classic", "bundle"])
def test_a_signed_kit_starts_again_without_a_registry(layout: str, lying: Lying, layouts: Path, tmp_path: Path) -> None:
    registry = lying(layouts / layout)
    reference = f"{registry.host}/kits/iris:v1"
    kit = pulled(reference, tmp_path, verify_keys=(COSIGN,))
    assert kit.signer == "cosign.pub"
    asked = len(registry.requests)
    assert pulled(reference, tmp_path, verify_keys=(COSIGN,), pull="never").root == kit.root
    assert len(registry.requests) == asked
    with pytest.raises(NotFound, match="asks no registry"):  # another key has nothing to go by
        pulled(reference, tmp_path, verify_keys=(SIGNED / "keys/other.pub",), pull="never")
    kept = next((tmp_path / "signatures").iterdir())
    for spoiled in (b"[]", b'["dsse", "", ""]', kept.read_bytes()[:-9] + b'AAAAAA"]'):
        kept.unlink()
        kept.write_bytes(spoiled)
        assert pulled(reference, tmp_path, verify_keys=(COSIGN,)).signer == "cosign.pub"
        assert kept.read_bytes() != spoiled


def test_a_registry_with_the_referrers_api_is_asked_by_it(lying: Lying, layouts: Path, tmp_path: Path) -> None:
    registry = lying(layouts / "bundle")
    registry.lie("/referrers/", other((SIGNED / "referrers-response.json").read_bytes()))
    assert checked(f"{registry.host}/kits/iris:v1", tmp_path) == "cosign.pub"
    (asked,) = registry.seen("/referrers/")
    assert asked.path.endswith("?artifactType=application%2Fvnd.dev.sigstore.bundle.v0.3%2Bjson")
    assert not registry.seen("/manifests/sha256-[0-9a-f]+$")


@pytest.mark.parametrize("link", ['<{path}?page=2>; rel="next"', "<{url}{path}?page=2>; rel=next"])
def test_a_signature_on_the_second_page_of_referrers_is_found(
    link: str, lying: Lying, layouts: Path, tmp_path: Path
) -> None:
    registry, page = lying(layouts / "bundle"), (SIGNED / "referrers-response.json").read_bytes()
    path = f"/v2/kits/iris/referrers/{EXPECTED['bundle']['kit']}"
    registry.lie("page=2", other(page))
    registry.lie("/referrers/", other(b'{"manifests": []}', Link=link.format(url=registry.url, path=path)))
    assert checked(f"{registry.host}/kits/iris:v1", tmp_path) == "cosign.pub"
    assert [seen.path.partition("?")[2][:7] for seen in registry.seen("/referrers/")] == ["artifac", "page=2"]


@pytest.mark.parametrize("link", ["{stranger}/v2/kits/iris/referrers/x", "http://[", "file:///etc/passwd"])
def test_42_a_next_page_of_referrers_elsewhere_is_not_asked_for(
    link: str, lying: Lying, layouts: Path, tmp_path: Path
) -> None:
    registry, stranger, watch = lying(layouts / "bundle"), lying(layouts / "bundle"), Recorder()
    following = f'<{link.format(stranger=stranger.url)}>; rel="next"'
    registry.lie("/referrers/", other(b'{"manifests": []}', Link=following))
    with pytest.raises(NotSigned, match="has no signature"):
        checked(f"{registry.host}/kits/iris:v1", tmp_path, watch=watch)
    assert stranger.requests == []
    assert [fields["reason"] for _, fields in watch.warnings] == [
        f"{registry.url} has the next page of an answer elsewhere, where it is not asked for"
    ]


def test_pages_of_referrers_without_end_are_not_read_for_ever(lying: Lying, layouts: Path, tmp_path: Path) -> None:
    registry = lying(layouts / "bundle")
    registry.lie("/referrers/", other(b'{"manifests": []}', Link='<?page=next>; rel="next"'))
    with pytest.raises(NotSigned, match="has no signature"):
        checked(f"{registry.host}/kits/iris:v1", tmp_path)
    assert len(registry.seen("/referrers/")) == 16


def test_48_a_kit_that_is_not_signed_may_be_a_warning_and_is_said_once(
    lying: Lying, layouts: Path, tmp_path: Path
) -> None:
    registry, watch = lying(layouts / "wrong-key"), Recorder()
    kit = pulled(f"{registry.host}/kits/iris:v1", tmp_path, watch, verify_keys=(COSIGN,), must_be_signed=False)
    assert kit.signer is None
    assert watch.warned == ["kit.not_signed"]
    assert "another key's" in str(watch.warnings[0][1]["reason"])


def test_without_a_key_nothing_is_asked_about_signatures(lying: Lying, layouts: Path, tmp_path: Path) -> None:
    registry = lying(layouts / "tampered")
    pulled(f"{registry.host}/kits/iris:v1", tmp_path)
    assert registry.seen(r"sha256-|/referrers/") == []


# --- kits that lead to others, and folders


class Signer:
    """Signs what lies in a layout as cosign does, with a key of its own."""

    def __init__(self, folder: Path, curve: ec.EllipticCurve | None = None) -> None:
        self._key = ec.generate_private_key(curve or ec.SECP256R1())
        self.public = folder / "mine.pub"
        self.public.write_bytes(self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def sign(self, layout: Path, digest: str, claims: object = None, kind: hashes.HashAlgorithm | None = None) -> None:
        critical = {"image": {"docker-manifest-digest": digest}, "type": "cosign container image signature"}
        payload = json.dumps({"critical": critical, "optional": claims}).encode()
        signature = base64.b64encode(self._key.sign(payload, ec.ECDSA(kind or hashes.SHA256()))).decode()
        self.attach(layout, digest, [{**put(layout, payload, SIGNING), "annotations": {_NOTE: signature}}])

    def attach(self, layout: Path, digest: str, layers: list[object]) -> None:
        manifest = {"schemaVersion": 2, "layers": layers}
        described = put(layout, json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
        named(layout, described, digest.replace(":", "-") + ".sig")


_NOTE = "dev.cosignproject.cosign/signature"


def test_a_parent_named_by_digest_is_what_the_childs_signature_says(lying: Lying, tmp_path: Path) -> None:
    layout, signer = made_kit(tmp_path / "layout", {"m.onnx": b"model"}, "base"), Signer(tmp_path)
    registry, base = lying(layout), digest_of(layout, "base")
    for tag, parent in (("pinned", f"k@{base}"), ("by-tag", "k:base")):
        kit_with_parent(layout, f"{registry.host}/{parent}", tag)
        signer.sign(layout, digest_of(layout, tag))
    assert checked(f"{registry.host}/k:pinned", tmp_path / "cache", signer.public) == "mine.pub"
    with pytest.raises(NotSigned, match=f"{base} has no signature"):
        checked(f"{registry.host}/k:by-tag", tmp_path / "cache", signer.public)
    signer.sign(layout, base)
    assert checked(f"{registry.host}/k:by-tag", tmp_path / "cache", signer.public) == "mine.pub"


def test_the_signature_of_an_index_is_that_of_its_kits(tmp_path: Path) -> None:
    layout, signer = made_kit(tmp_path / "layout", {"m.onnx": b"model"}, "one"), Signer(tmp_path)
    (manifest,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    document = {"artifactType": "application/vnd.kitops.modelkit.index.v1+json", "manifests": [manifest]}
    index = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", **document})
    named(layout, put(layout, index.encode(), "application/vnd.oci.image.index.v1+json"), "all")
    with pytest.raises(NotSigned):
        checked(f"oci:{layout}:all", tmp_path, signer.public)
    signer.sign(layout, digest_of(layout, "all"))
    assert checked(f"oci:{layout}:all", tmp_path, signer.public) == "mine.pub"
    with pytest.raises(NotSigned):  # asked for without the index
        checked(f"oci:{layout}:one", tmp_path, signer.public)


def test_48_a_folder_has_no_signature(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"model")
    with pytest.raises(NotSigned, match="is a folder, which has no signature"):
        checked(str(tmp_path), tmp_path / "cache")
    checked(str(tmp_path), tmp_path / "cache", watch=(watch := Recorder()), must_be_signed=False)
    assert watch.warned[0] == "kit.not_signed"


@pytest.mark.slow
def test_who_signed_a_kit_is_said(layouts: Path, tmp_path: Path) -> None:
    served = runtime.load(f"oci:{layouts}/classic:v1", verify_key=COSIGN, cache_dir=tmp_path / "cache")
    assert served.provenance.signed_by == "cosign.pub"
    inspected = run("inspect", f"oci:{layouts}/classic:v1", f"--verify-key={COSIGN}")
    assert (inspected.returncode, "signed by  cosign.pub" in inspected.stdout) == (0, True)


@pytest.mark.slow
def test_a_signed_kit_may_run_its_code(tmp_path: Path) -> None:
    code = b"def load(path, options):\n    print('THIS KIT RAN CODE ON LOAD')\n    return lambda arrays: arrays"
    serving = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}], "options": {"entrypoint": "serve:load"}}
    layout = made_kit(
        tmp_path / "layout", {"m": b"", "serve.py": code}, framework="python", parameters={"serving": serving}
    )
    signer = Signer(tmp_path)
    command = ["verify", f"oci:{layout}:v1", f"--cache-dir={tmp_path}/cache", "--trust=signed"]
    command += [f"--verify-key={signer.public}"]
    unsigned = run(*command)
    said = unsigned.stdout + unsigned.stderr
    assert (unsigned.returncode, "is not signed" in said, "THIS KIT RAN CODE" in said) == (79, True, False)
    signer.sign(layout, digest_of(layout, "v1"))
    signed = run(*command)
    assert "THIS KIT RAN CODE ON LOAD" in signed.stdout + signed.stderr


# --- keys, and signatures that cannot be read


@pytest.mark.parametrize(
    ("curve", "kind"),
    [
        (ec.SECP521R1(), hashes.SHA512()),
        (ec.SECP521R1(), hashes.SHA256()),
        (ec.SECP384R1(), hashes.SHA256()),
        (ec.SECP256R1(), hashes.SHA256()),
    ],
    ids=lambda each: each.name,
)
def test_every_curve_and_how_older_cosigns_used_it(
    curve: ec.EllipticCurve, kind: hashes.HashAlgorithm, tmp_path: Path
) -> None:
    layout, signer = made_kit(tmp_path / "layout", {"m.onnx": b"model"}), Signer(tmp_path, curve)
    signer.sign(layout, digest_of(layout, "v1"), kind=kind)
    assert checked(f"oci:{layout}:v1", tmp_path, signer.public) == "mine.pub"


def test_signatures_that_cannot_be_read_do_not_hide_the_right_one(tmp_path: Path) -> None:
    layout, signer = made_kit(tmp_path / "layout", {"m.onnx": b"model"}), Signer(tmp_path)
    digest = digest_of(layout, "v1")
    signer.sign(layout, digest)
    sig = json.loads(
        (layout / "blobs" / digest_of(layout, digest.replace(":", "-") + ".sig").replace(":", "/")).read_bytes()
    )
    (right,) = sig["layers"]
    wrong = [
        {**right, "annotations": {_NOTE: "?"}},
        {**right, "annotations": None},
        {**right, "size": 2 << 20},
        {**right, "digest": f"sha256:{'0' * 64}"},
        {**put(layout, b"{}", SIGNING), "annotations": right["annotations"]},
        "no layer",
    ]
    signer.attach(layout, digest, [*wrong, right])
    assert checked(f"oci:{layout}:v1", tmp_path, signer.public) == "mine.pub"
    signer.attach(layout, digest, [*[wrong[4]] * 64, right])
    with pytest.raises(NotSigned):
        checked(f"oci:{layout}:v1", tmp_path, signer.public)


@pytest.mark.parametrize(
    "bundle",
    [
        {},
        {"dsseEnvelope": {"payloadType": "text/plain"}},
        {"dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": 1, "signatures": [{"sig": ""}]}},
        {"dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": "", "signatures": []}},
    ],
)
def test_a_bundle_that_is_none_is_no_signature(bundle: dict[str, object], tmp_path: Path) -> None:
    layout, kind = made_kit(tmp_path / "layout", {"m.onnx": b"model"}), "application/vnd.dev.sigstore.bundle.v0.3+json"
    carrier = {"schemaVersion": 2, "layers": [put(layout, json.dumps(bundle).encode(), kind)]}
    described = put(layout, json.dumps(carrier).encode(), "application/vnd.oci.image.manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [{**described, "artifactType": kind}]}
    tag = digest_of(layout, "v1").replace(":", "-")
    named(layout, put(layout, json.dumps(index).encode(), "application/vnd.oci.image.index.v1+json"), tag)
    with pytest.raises(NotSigned, match="has no signature"):
        checked(f"oci:{layout}:v1", tmp_path)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    small = rsa.generate_private_key(65537, 1024).public_key()
    files = {
        "text": (b"no key", "has no public key, wanted one that begins with -----BEGIN PUBLIC KEY-----"),
        "small": (small.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "at least 2048 bits"),
    }
    for name, (data, said) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InvalidSetting, match=said):
            checked("oci:nowhere", tmp_path, tmp_path / name)
    with pytest.raises(InvalidSetting, match=r"nothing' cannot be read: No such file"):
        checked("oci:nowhere", tmp_path, tmp_path / "nothing")


def test_without_its_package_the_message_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("runtime.kit.signature.keys.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"--verify-key needs the package cryptography: .*install"):
        checked("oci:nowhere", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--verify-claim", "env=prod"], "give --verify-key FILE, too"),
        (["--verify-claim", "env"], "wanted claims such as env=prod"),
        (["--trust", "signed"], "--trust signed lets signed kits run code, and others not start"),
        (["--trust", "signed", "--verify-key", "k", "--signatures", "warn"], "leave --signatures at enforce"),
    ],
)
def test_options_that_make_no_sense_together(arguments: list[str], said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        Settings.read(["localhost/kit:v1", *arguments], {})


def test_keys_may_be_repeated() -> None:
    settings = Settings.read(["localhost/k:v1", "--verify-key", "a,b", "--verify-key", "c", "--trust", "signed"], {})
    assert settings.verify_key == (Path("a"), Path("b"), Path("c"))
    assert settings.pull_options.must_be_signed
