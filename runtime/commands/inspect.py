"""`runtime inspect`: what a kit is, from its manifest and its Kitfile alone. Nothing of the kit is loaded or run."""

import json
from collections.abc import Callable
from typing import Any, Final

import adapters
from adapters.base import AdapterError, AmbiguousModel, NoAdapter, Refused
from runtime.commands.files import examine
from runtime.commands.stopping import until_stopped
from runtime.errors import NoModel, Unsupported
from runtime.exits import exit_code
from runtime.kit.format.kitfile import check_servable
from runtime.kit.format.placing import needed
from runtime.kit.format.reference import Reference
from runtime.kit.pull import Kit, Resolved, fetch, resolve
from runtime.link.model_files import ModelFacts
from runtime.log import Log, with_short_digests
from runtime.progress import Progress, human_bytes
from runtime.settings import Settings
from runtime.supervisor.strays import adopt, sweep_until_none

LIMITS: Final = ("max_body_bytes", "max_in_flight", "inference_timeout")
"""What a server has that is started with the same options; its metadata says so, too."""
_END_SECONDS: Final = 1.0  # for processes that the one that looked at the files left behind


def run(settings: Settings, log: Log, _: object, /) -> tuple[int, list[str]]:
    """Reports on the kit, in text or JSON; the code says whether `--files` finds what would end a start.

    Raises Failure if the kit cannot be resolved, or its files not examined.
    """
    return until_stopped(lambda progress: _inspect(settings, progress, log), log, settings.progress)


def _inspect(settings: Settings, progress: Progress, log: Log) -> tuple[int, list[str]]:
    reference = Reference.parse(settings.kit, registry=settings.registry, model_name=settings.model_name)
    resolved = resolve(reference, settings.pull_options, progress)
    kit = fetch(resolved, settings.pull_options, progress) if settings.files else None
    report = _report(resolved, settings)
    if kit:
        report |= _files(kit, settings, progress, log)
    lines = json.dumps(report, indent=2, ensure_ascii=False).split("\n") if settings.json else _as_text(report)
    return _code(report), lines


def _code(report: dict[str, Any]) -> int:
    """Returns the code of what ends a start: a file that is refused, or none or several that could be the model."""
    files = report.get("files", ())
    if any(file["refused"] for file in files):
        return exit_code(Refused(""))
    if not files or report["adapter"]["name"] or not report["model"]["path"]:
        return 0
    known = [file for file in files if file["adapter"]]
    return exit_code(AmbiguousModel("") if len(known) > 1 else NoAdapter(""))


def _report(resolved: Resolved, settings: Settings) -> dict[str, Any]:
    kitfile, model = resolved.kitfile, resolved.kitfile.model
    fetched = {id(placed) for placed in needed(resolved.placed)}
    layers = [
        {
            "section": placed.section,
            "path": placed.entry.path,
            "media_type": placed.layer.descriptor.media_type,
            "digest": str(placed.layer.descriptor.digest),
            "size": placed.layer.descriptor.size,
            "fetched": id(placed) in fetched,
        }
        for placed in resolved.placed
    ]
    return {
        "name": resolved.reference.name,
        "reference": str(resolved.reference),
        "digest": str(resolved.reference.digest) if resolved.reference.digest else None,
        "verified": "receipt" if resolved.receipt else "false" if resolved.root else None,
        "signed_by": resolved.signer,
        "package": {
            "name": kitfile.name,
            "version": kitfile.version,
            "description": kitfile.description,
            "authors": list(kitfile.authors),
            "license": kitfile.license,
        },
        "model": {key: getattr(model, key, None) for key in ("path", "parent", "framework", "format")},
        "adapter": dict(zip(("name", "reason"), _by_name(resolved, settings.adapter), strict=True)),
        "limits": {name: getattr(settings, name) for name in LIMITS},
        "layers": layers,
        "fetch_bytes": sum(layer["size"] for layer in layers if layer["fetched"]),
        "total_bytes": sum(layer["size"] for layer in layers),
    }


def _by_name(resolved: Resolved, adapter: str | None) -> tuple[str | None, str]:
    try:
        check_servable(resolved.kitfile)
        facts = ModelFacts.of(resolved.kitfile)
        chosen = adapters.guess(facts.path, framework=facts.framework, format=facts.format, adapter=adapter)
    except (NoModel, Unsupported, AdapterError) as error:
        return None, str(error)
    return (chosen.name, "by name") if chosen else (None, "only the files can tell: --files")


def _files(kit: Kit, settings: Settings, progress: Progress, log: Log) -> dict[str, Any]:
    adopt()
    try:
        chosen, files = examine(kit, settings, progress.cancelled, log=log)
    finally:
        sweep_until_none(_END_SECONDS)
    return {
        "adapter": {"name": chosen.adapter, "reason": chosen.reason},
        "trust": settings.trust,
        "files": [
            {"path": path, "adapter": file.adapter, "refused": file.reason, "size": (kit.root / path).stat().st_size}
            for path, file in files.items()
        ],
        "verified": kit.verified,
    }


def _as_text(report: dict[str, Any]) -> list[str]:
    package, model, adapter = report["package"], report["model"], report["adapter"]
    facts = {
        "reference": report["reference"],
        "digest": report["digest"] or "none: plain files on this machine",
        "verified": "by receipt" if report["verified"] == "receipt" else None,
        "signed by": report["signed_by"],
        "package": " ".join(filter(None, (package["name"], package["version"]))),
        "about": package["description"],
        "authors": ", ".join(package["authors"]),
        "licence": package["license"],
        "model": model["path"] or (f"from the kit {model['parent']}" if model["parent"] else "none"),
        "framework": model["framework"] or "not said",
        "format": model["format"] or "not said",
        "adapter": f"{adapter['name'] or 'none'} ({adapter['reason']})",
        "limits": _limits(**report["limits"]),
        "fetched": report["layers"] and f"{human_bytes(report['fetch_bytes'])} of {human_bytes(report['total_bytes'])}",
    }
    lines = [report["name"], *(f"  {label:<11}{fact}" for label, fact in facts.items() if fact)]
    if report["layers"]:
        lines += ["", "layers (* fetched for serving)", *_rows(report["layers"], _layer_row)]
    if "files" in report:
        lines += ["", f"files (under --trust {report['trust']})", *_rows(report["files"], _file_row)]
    return [with_short_digests(line) for line in lines]


def _limits(max_body_bytes: int, max_in_flight: int, inference_timeout: float) -> str:
    deadline = f", {inference_timeout:g} s for a prediction" if inference_timeout else ""
    return f"{human_bytes(max_body_bytes)} in a body, {max_in_flight} requests at once{deadline}"


def _rows(items: list[dict[str, Any]], row: Callable[[dict[str, Any], str, str], str]) -> list[str]:
    width = min(max((len(item["path"]) for item in items), default=0), 48)
    return [row(item, f"{human_bytes(item['size']):>9}", f"{item['path']:<{width}}") for item in items]


def _layer_row(layer: dict[str, Any], size: str, path: str) -> str:
    return f"  {'*' if layer['fetched'] else ' '} {layer['section']:<8}{size}  {path}  {layer['digest']}"


def _file_row(file: dict[str, Any], size: str, path: str) -> str:
    verdict = f"{file['adapter']}: may load" if file["adapter"] else "no model file"
    if file["refused"]:
        verdict = f"{file['adapter'] or 'unknown'}: REFUSED, {file['refused']}"
    return f"  {size}  {path}  {verdict}"
