"""What the operator and the kit together want of batches."""

import pytest

from runtime.serving.engine.trial import Wish
from runtime.worker.declared import Batching
from runtime.worker.loading import _wish

KIT = Batching(8, 5.0)


@pytest.mark.parametrize(
    ("mode", "kit", "wish"),
    [
        ("auto", None, Wish()),
        ("auto", KIT, Wish(8, 0.005, must_pay=False)),
        ("exact", None, Wish(exact=True)),
        ("exact", KIT, Wish(8, 0.005, exact=True, must_pay=False)),
        ("off", KIT, None),
        ("32", None, Wish(32, must_pay=False)),
        ("32", KIT, Wish(32, 0.005, must_pay=False)),
        ("1", KIT, None),
        ("auto", Batching(1), None),
    ],
)
def test_the_operator_wins_over_the_kit_and_a_number_over_what_pays(mode: str, kit: Batching | None, wish: Wish | None):
    assert _wish(mode, kit) == wish
