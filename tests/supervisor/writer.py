"""What stands in for a worker whose code writes: it runs `$TORCH_LOGS`, which reaches it as tuning variables do."""

from __future__ import annotations

import os


def main(_control: int, _supervisor: int) -> None:
    exec(os.environ["TORCH_LOGS"], {})
