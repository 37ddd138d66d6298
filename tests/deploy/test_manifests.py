"""Every manifest of deploy/ against the schemas of Kubernetes and KServe, as a cluster would see it, and stricter."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import runtime
from tests.adapters.kits import unpack
from tests.places import ROOT

if TYPE_CHECKING:
    import jsonschema

DEPLOY = ROOT / "deploy"
CRDS = ROOT / "tests/crds"
FOLDERS = sorted(path.parent for path in DEPLOY.glob("kubernetes/**/kustomization.yaml"))
BIN = Path(sys.executable).parent
OPERATOR = {"PodMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator: no schema of them is at hand; the rules are checked by promtool."""

pytestmark = pytest.mark.slow
Document = dict[str, Any]


def rendered(folder: Path) -> list[Document]:
    return copy.deepcopy(_rendered(folder))


@functools.cache
def _rendered(folder: Path) -> list[Document]:
    done = subprocess.run(
        [BIN / "kubectl", "kustomize", folder], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


def kubernetes_says(documents: list[Document]) -> list[str]:
    """What is wrong with each document, by the schema of its kind, with unknown keys counted as wrong."""
    import kubernetes_validate

    complaints = []
    for document in documents:
        try:
            kubernetes_validate.validate(document, "1.33", strict=True)
        except kubernetes_validate.ValidationError as error:
            complaints.append(f"{document['kind']}: {error.message}")
    return complaints


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_kustomize_renders_what_kubernetes_accepts(folder: Path) -> None:
    assert kubernetes_says([document for document in rendered(folder) if document["kind"] not in OPERATOR]) == []


def test_the_check_sees_a_typing_error() -> None:
    (deployment,) = (document for document in rendered(DEPLOY / "kubernetes/base") if document["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["readinesProbe"] = container.pop("readinessProbe")
    (complaint,) = kubernetes_says([deployment])
    assert "readinesProbe" in complaint


@pytest.mark.parametrize("file", sorted(DEPLOY.glob("kserve/*.yaml")), ids=lambda file: file.stem)
def test_kserve_accepts(file: Path) -> None:
    for document in yaml.safe_load_all(file.read_text()):
        errors = list(validator(document).iter_errors(document))
        assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_the_crd_check_sees_a_typing_error() -> None:
    document = yaml.safe_load((DEPLOY / "kserve/inferenceservice.yaml").read_text())
    document["spec"]["predictor"]["model"]["storageURL"] = document["spec"]["predictor"]["model"].pop("storageUri")
    assert [error.message for error in validator(document).iter_errors(document)]


def validator(document: Document) -> jsonschema.Draft202012Validator:
    """The schema of the document's kind and version, closed: a cluster drops unknown keys without a word."""
    return _validator(document["apiVersion"], document["kind"])


@functools.cache
def _validator(api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    import jsonschema

    group, _, version = api_version.partition("/")
    file = CRDS / f"{group}_{kind.lower()}s.yaml"
    versions = yaml.load(file.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    (found,) = (entry for entry in versions if entry["name"] == version)
    return jsonschema.Draft202012Validator(closed(found["schema"]["openAPIV3Schema"]))


def closed(schema: Any, name: str = "") -> Any:
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if name == "metadata" and "properties" not in schema:
        return {"type": "object"}
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    result = {key: closed(part, key) for key, part in schema.items() if key not in ("pattern", "properties")}
    if isinstance(schema.get("properties"), dict):
        result["properties"] = {key: closed(part, key) for key, part in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    return result


def test_the_pod_of_the_knative_service_is_a_pod() -> None:
    service = yaml.safe_load((DEPLOY / "knative/service.yaml").read_text())
    spec = service["spec"]["template"]["spec"]
    for own in ("containerConcurrency", "timeoutSeconds"):
        spec.pop(own)
    for container in spec["containers"]:  # what Knative fills in
        container["name"] = "user-container"
        for probe in ("readinessProbe", "livenessProbe"):
            container[probe]["httpGet"]["port"] = 8080
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "iris"}, "spec": spec}
    assert kubernetes_says([pod]) == []


def pod_specs() -> list[tuple[str, Document]]:
    """Every pod that deploy/ describes."""
    specs = [(f"{folder.name}: {document['kind']}", document["spec"]["template"]["spec"])
             for folder in FOLDERS for document in rendered(folder) if document["kind"] == "Deployment"]  # fmt: skip
    knative = yaml.safe_load((DEPLOY / "knative/service.yaml").read_text())
    return [*specs, ("knative", knative["spec"]["template"]["spec"])]


def test_every_pod_keeps_services_out_of_its_environment() -> None:
    kserve = yaml.safe_load((DEPLOY / "kserve/inferenceservice.yaml").read_text())
    for name, spec in [*pod_specs(), ("kserve", kserve["spec"]["predictor"])]:
        assert spec["enableServiceLinks"] is False, name


def test_every_container_is_confined_and_bounded() -> None:
    runtime = yaml.safe_load((DEPLOY / "kserve/clusterservingruntime.yaml").read_text())
    for name, spec in [*pod_specs(), ("kserve", runtime["spec"])]:
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            context = spec.get("securityContext", {}) | container["securityContext"]
            assert context["runAsNonRoot"], name
            assert context["readOnlyRootFilesystem"], name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert not context["allowPrivilegeEscalation"], name
            assert "memory" in container["resources"]["limits"], name


def test_selectors_and_ports_find_the_pods() -> None:
    found = {document["kind"]: document for document in rendered(DEPLOY / "kubernetes/overlays/monitoring")}
    pod = found["Deployment"]["spec"]["template"]
    labels, ports = pod["metadata"]["labels"], {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    selectors = [found["Service"]["spec"]["selector"], found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
                 found["PodMonitor"]["spec"]["selector"]["matchLabels"]]  # fmt: skip
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert found["Service"]["spec"]["ports"][0]["targetPort"] in ports
    assert found["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"] in ports


def test_the_operators_rules_are_prometheus_rules() -> None:
    rules = yaml.safe_load((DEPLOY / "monitoring/rules.yaml").read_text())
    operator = yaml.safe_load((DEPLOY / "kubernetes/overlays/monitoring/prometheusrule.yaml").read_text())
    assert operator["spec"] == rules


def test_kserve_is_told_of_no_format_that_the_image_does_not_serve(tmp_path: Path) -> None:
    """The image has the core alone; KServe puts files without a Kitfile into a folder."""
    runtime_ = yaml.safe_load((DEPLOY / "kserve/clusterservingruntime.yaml").read_text())
    formats = {each["name"] for each in runtime_["spec"]["supportedModelFormats"]}
    assert formats == {"modelkit", "onnx"}
    unpack("iris-onnx", tmp_path / "kit")
    (tmp_path / "models").mkdir()
    (tmp_path / "kit/model/iris.onnx").rename(tmp_path / "models/model.onnx")
    assert runtime.load(tmp_path / "models", model_name="iris").predict({"X": [[5.1, 3.5, 1.4, 0.2]]})[
        "label"
    ].tolist() == [0]
