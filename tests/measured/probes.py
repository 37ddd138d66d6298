"""Puts a probe before each statement of the runtime and the adapters. `sitecustomize` gives this code to who imports them.

A probe writes a byte of a file that all processes map, so that nothing is left to save where a process ends, and it costs
30 ns. A tracer, which coverage has of its own, makes all Python code of a process run half as fast.
"""

from __future__ import annotations

import ast
import json
import marshal
import shutil

from tests.places import ROOT

FOLDER = ROOT / "build/coverage"
LINES, FILES = FOLDER / "lines", FOLDER / "files.json"
"""One byte for each line of all files; the first byte and the number of the lines of each file."""


def prepare() -> None:
    """Writes the code with probes, and a file of lines that nobody has run yet."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    files, size = {}, 0
    for path in sorted(path for package in ("runtime", "adapters") for path in (ROOT / package).rglob("*.py")):
        source = path.read_text()
        files[str(path)] = size, (count := source.count("\n") + 1)
        code = compile(_probed(ast.parse(source), size), path, "exec", dont_inherit=True)
        kept = FOLDER / path.relative_to(ROOT)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(marshal.dumps(code))
        size += count
    FILES.write_text(json.dumps(files))
    LINES.write_bytes(bytes(size))


def seen() -> dict[str, list[int]]:
    """Returns the lines that ran, by file."""
    lines = LINES.read_bytes()
    return {
        path: [number for number in range(1, count + 1) if lines[first + number - 1]]
        for path, (first, count) in json.loads(FILES.read_text()).items()
    }


def _probed(tree: ast.Module, first: int) -> ast.Module:
    """Puts the probes in; line 1 is byte `first`."""

    def with_probes(statement: ast.stmt, is_first: bool) -> list[ast.stmt]:
        probes = [probe(one.lineno) for one in (*getattr(statement, "decorator_list", ()), statement)]
        match statement:
            case ast.Expr(ast.Constant(str())) if is_first:  # a docstring, which runs nothing
                return [statement]
            case ast.ImportFrom("__future__"):  # has to be before all others
                return [statement, *probes]
        return [*probes, statement]

    def probe(line: int) -> ast.stmt:
        return ast.parse(f"__lines__[{first + line - 1}] = 1").body[0]

    for node in ast.walk(tree):  # what is put into a node is not walked any more
        for field in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(node, field, None), list):
                setattr(node, field, [one for n, each in enumerate(statements) for one in with_probes(each, n == 0)])
        match node:
            case ast.ExceptHandler(type=ast.expr() as wanted):
                tried = ast.parse(f"__lines__.__setitem__({first + node.lineno - 1}, 1)", mode="eval").body
                node.type = ast.copy_location(ast.BoolOp(ast.Or(), [tried, wanted]), wanted)
            case ast.match_case() | ast.ExceptHandler():
                node.body.insert(0, probe((node.pattern if isinstance(node, ast.match_case) else node).lineno))
    return tree


if __name__ == "__main__":
    prepare()
