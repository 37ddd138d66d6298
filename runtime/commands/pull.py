"""What the settings mean for a pull."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.kit.pull import PullOptions

if TYPE_CHECKING:
    from runtime.settings import Settings


def pull_options(settings: Settings) -> PullOptions:
    """The part of the settings that a pull needs."""
    return PullOptions(
        cache_dir=settings.cache_dir, plain_http=settings.plain_http, retry_budget_seconds=settings.retry_budget
    )
