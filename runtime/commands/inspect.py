"""`runtime inspect`: what a kit is, from its manifest and its Kitfile alone. Nothing of the kit is loaded or run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import adapters
from adapters.base import AdapterError
from runtime.commands.files import Verdict, examine
from runtime.commands.stopping import until_stopped
from runtime.errors import NoModel, Unsupported
from runtime.kit.format.kitfile import check_servable
from runtime.kit.format.placing import needed
from runtime.kit.format.reference import Reference
from runtime.kit.pull import Kit, Resolved, fetch, resolve
from runtime.link.model_files import ModelFacts
from runtime.progress import human_bytes

if TYPE_CHECKING:
    from runtime.log import Log
    from runtime.progress import Progress
    from runtime.settings import Settings


def run(settings: Settings, log: Log, _: object, /) -> tuple[int, list[str]]:
    """Reports on the kit: text for people, or JSON with `--json`.

    Raises:
        Failure: the kit cannot be resolved, or with `--files` not be fetched or not be examined.
    """
    return until_stopped(lambda progress: _inspect(settings, progress, log), log)


def _inspect(settings: Settings, progress: Progress, log: Log) -> list[str]:
    reference = Reference.parse(settings.kit, registry=settings.registry, model_name=settings.model_name)
    resolved = resolve(reference, settings.pull_options, progress)
    kit = fetch(resolved, settings.pull_options, progress) if settings.files else None
    report = _report(resolved, settings.adapter)
    if kit:
        report |= _files(kit, settings, progress, log)
    return json.dumps(report, indent=2, ensure_ascii=False).split("\n") if settings.json else _as_text(report)


def _report(resolved: Resolved, adapter: str | None) -> dict[str, Any]:
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
        "package": {"name": kitfile.name, "version": kitfile.version, "description": kitfile.description},
        "model": {
            "path": model.path if model else None,
            "parent": model.parent if model else None,
            "framework": model.framework if model else None,
            "format": model.format if model else None,
        },
        "adapter": _as_json(_by_name(resolved, adapter)),
        "layers": layers,
        "fetch_bytes": sum(layer["size"] for layer in layers if layer["fetched"]),
        "total_bytes": sum(layer["size"] for layer in layers),
    }


def _by_name(resolved: Resolved, adapter: str | None) -> Verdict:
    try:
        check_servable(resolved.kitfile)
    except (NoModel, Unsupported) as error:
        return Verdict(None, str(error))
    facts = ModelFacts.of(resolved.kitfile)
    try:
        chosen = adapters.guess(facts.path, framework=facts.framework, format=facts.format, adapter=adapter)
    except AdapterError as error:
        return Verdict(None, str(error))
    return Verdict(chosen.name, "by name") if chosen else Verdict(None, "only the files can tell: --files")


def _files(kit: Kit, settings: Settings, progress: Progress, log: Log) -> dict[str, Any]:
    chosen, files = examine(kit, settings, progress.cancelled, log=log)
    return {
        "adapter": _as_json(chosen),
        "trust": settings.trust,
        "files": [
            {"path": path, "adapter": file.adapter, "refused": file.reason, "size": (kit.root / path).stat().st_size}
            for path, file in files.items()
        ],
        "verified": kit.verified,
    }


def _as_json(verdict: Verdict) -> dict[str, str | None]:
    return {"name": verdict.adapter, "reason": verdict.reason}


def _as_text(report: dict[str, Any]) -> list[str]:
    package, model, adapter = report["package"], report["model"], report["adapter"]
    lines = [
        report["name"],
        *_row("reference", report["reference"]),
        *_row("digest", report["digest"] or "none: a plain folder"),
        *_row("package", " ".join(filter(None, (package["name"], package["version"])))),
        *_row("about", package["description"]),
        *_row("model", model["path"] or (f"from the kit {model['parent']}" if model["parent"] else "none")),
        *_row("framework", model["framework"] or "not said"),
        *_row("format", model["format"] or "not said"),
        *_row("adapter", f"{adapter['name'] or 'none'} ({adapter['reason']})"),
        *_row("fetched", f"{human_bytes(report['fetch_bytes'])} of {human_bytes(report['total_bytes'])}"),
    ]
    if report["layers"]:
        lines += ["", "layers (* fetched for serving)", *_layer_rows(report["layers"])]
    if "files" in report:
        lines += ["", f"files (under --trust {report['trust']})", *_file_rows(report["files"])]
    return lines


def _row(label: str, value: str) -> list[str]:
    return [f"  {label:<11}{value}"] if value else []


def _layer_rows(layers: list[dict[str, Any]]) -> list[str]:
    width = min(max(len(layer["path"]) for layer in layers), 48)
    return [
        f"  {'*' if layer['fetched'] else ' '} {layer['section']:<8}{human_bytes(layer['size']):>9}  "
        f"{layer['path']:<{width}}  {layer['digest']}"
        for layer in layers
    ]


def _file_rows(files: list[dict[str, Any]]) -> list[str]:
    width = min(max((len(file["path"]) for file in files), default=0), 48)
    return [
        f"  {human_bytes(file['size']):>9}  {file['path']:<{width}}  {_verdict_on(file)}".rstrip() for file in files
    ]


def _verdict_on(file: dict[str, Any]) -> str:
    if file["refused"]:
        return f"{file['adapter'] or 'unknown'}: REFUSED, {file['refused']}"
    return f"{file['adapter']}: may load" if file["adapter"] else "no model file"
