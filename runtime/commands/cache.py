"""`runtime cache ls|verify|gc`: what the cache holds, whether it is right, and what may go."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from runtime.commands.stopping import until_stopped
from runtime.errors import BadContent, NotFound
from runtime.exits import exit_code
from runtime.kit.cache import keeping
from runtime.kit.cache.store import Store
from runtime.kit.files import remove
from runtime.kit.format.manifest import Descriptor
from runtime.kit.observer import check
from runtime.kit.pull import is_whole
from runtime.log import Log, with_short_digests
from runtime.progress import Progress, counted, human_bytes
from runtime.settings import Settings

_WRONG: Final = exit_code(BadContent())
Report = dict[str, Any]


def run(settings: Settings, log: Log, _: object, /) -> tuple[int, list[str]]:
    """Does what `settings.action` says; 65 if `verify` finds something wrong. Raises StorageFailed."""
    act: Callable[[Settings, Progress], Report] = {"ls": _ls, "verify": _verify, "gc": _gc}[settings.action]

    def work(progress: Progress) -> tuple[int, list[str]]:
        report = act(settings, progress)
        text = [with_short_digests(line) for line in _as_text(report)]
        lines = json.dumps(report, indent=2).split("\n") if settings.json else text
        return _WRONG if report.get("wrong") else 0, lines

    return until_stopped(work, log)


def _ls(settings: Settings, _: Progress) -> Report:
    store = Store(settings.cache_dir)
    blobs = keeping.blob_bytes(store)
    kits = [
        {
            "digest": str(kit.digest),
            "names": kit.names,
            "tree_bytes": kit.tree_bytes,
            "blob_bytes": sum(blobs.get(digest, 0) for digest in kit.blobs),
            "used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(kit.used)) if kit.used else None,
            "in_use": kit.in_use,
        }
        for kit in keeping.held_kits(store)
    ]
    return {"folder": str(store.root), "bytes": keeping.total_bytes(store), "kits": kits}


def _verify(settings: Settings, progress: Progress) -> Report:
    """Reads everything. What is wrong stays where it is: the next pull that needs it fetches it again."""
    store, wrong, unknown = Store(settings.cache_dir), [], []
    blobs = keeping.blob_bytes(store)
    for digest, size in blobs.items():
        try:
            if file := store.open(Descriptor("", digest, size, {}), lambda _: check(progress)):
                file.close()
        except BadContent as problem:
            wrong.append({"blob": str(digest), "reason": str(problem)})
    kits = [kit for kit in keeping.held_kits(store) if store.kit_path(kit.digest).exists()]
    for kit in kits:
        try:
            whole = is_whole(store, kit.digest, progress)
            unknown += [str(kit.digest)] if whole is None else []
            reason = "its files are not what its layers say" if whole is False else ""
        except (BadContent, NotFound) as problem:
            reason = str(problem)
        if reason:
            wrong.append({"kit": str(kit.digest), "reason": reason})
    return {"folder": str(store.root), "blobs": len(blobs), "kits": len(kits), "wrong": wrong, "unknown": unknown}


def _gc(settings: Settings, _: Progress) -> Report:
    """Removes what no kit needs, and with `--cache-max-bytes` the kits used longest ago."""
    store = Store(settings.cache_dir)
    before = keeping.total_bytes(store)
    for path in keeping.abandoned(store):
        remove(path)
    evicted = keeping.evict(store, settings.cache_max_bytes) if settings.cache_max_bytes else []
    blobs = keeping.remove_unnamed(store, keeping.blob_bytes(store), keeping.held_kits(store))
    after = keeping.total_bytes(store)
    removed = {"kits": [str(kit.digest) for kit in evicted], "blobs": [str(digest) for digest in blobs]}
    return {"folder": str(store.root), "bytes": after, "freed_bytes": before - after, "removed": removed}


def _as_text(report: Report) -> Iterator[str]:
    if "wrong" in report:
        read = f"{counted(report['blobs'], 'blob')}, {counted(report['kits'], 'kit')}"
        yield f"{report['folder']}: {read}, {len(report['wrong'])} wrong"
        for each in report["wrong"]:
            yield f"  {each.get('kit') or each.get('blob')}  {each['reason']}"
        for digest in report["unknown"]:
            yield f"  {digest}  not checked: its manifest lies where it came from, in a layout or an archive"
    elif "removed" in report:
        freed, removed = human_bytes(report["freed_bytes"]), report["removed"]
        blobs = f"{counted(len(removed['blobs']), 'blob')} that no kit needs"
        yield f"{report['folder']}: freed {freed}: {counted(len(removed['kits']), 'kit')}, {blobs}"
    else:
        yield f"{report['folder']}: {human_bytes(report['bytes'])}, {counted(len(report['kits']), 'kit')}"
        for kit in report["kits"]:
            size, used = (
                human_bytes(kit["tree_bytes"] + kit["blob_bytes"]),
                "in use" if kit["in_use"] else kit["used"] or "never used",
            )
            yield f"  {size:>9}  {used:20}  {', '.join(kit['names']) or kit['digest']}"
