"""Where the tests find what they read: the project, and the golden kits."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KITS = ROOT / "tests" / "kits"
