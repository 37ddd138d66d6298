"""`runtime schema`: the JSON schema (https://json-schema.org) of a Kitfile, for editors and pipelines."""

from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("kitfile.schema.json")


def run(*_: object) -> tuple[int, list[str]]:
    """Prints the schema."""
    return 0, FILE.read_text(encoding="utf-8").splitlines()
