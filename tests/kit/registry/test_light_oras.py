"""What comes along with oras-py, and what stays away."""

import subprocess
import sys

from tests.places import ROOT

SCRIPT = """
import sys
{before}
from runtime.kit.registry.light_oras import import_oras
provider, container = import_oras()
print(provider.Registry.__name__, container.Container.__name__)
print(sorted({{"rfc3987_syntax", "lark", "isoduration", "arrow"}} & set(sys.modules)))
"""


def run(before: str = "") -> list[str]:
    script = SCRIPT.format(before=before)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.splitlines()


def test_no_format_checker_comes_along() -> None:
    assert run() == ["Registry Container", "[]"]


def test_nothing_is_hidden_from_those_who_imported_jsonschema_before() -> None:
    assert run("import jsonschema")[0] == "Registry Container"


def test_what_was_hidden_can_be_imported_afterwards() -> None:
    script = (
        "import sys; from runtime.kit.registry.light_oras import import_oras; import_oras();"
        "assert 'isoduration' not in sys.modules and None not in sys.modules.values()"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
