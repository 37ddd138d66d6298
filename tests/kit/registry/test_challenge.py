"""WWW-Authenticate headers, as registries and others write them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.kit.registry.challenge import parse_challenges

BEARER = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull"'


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="kits"', [("basic", {"realm": "kits"})]),
        ("Basic realm=kits", [("basic", {"realm": "kits"})]),
        (
            BEARER,
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:library/x:pull",
                    },
                )
            ],
        ),
        ('bearer REALM = "r" , Service="s"', [("bearer", {"realm": "r", "service": "s"})]),
        (
            'Bearer realm="a",scope="",error="invalid_token"',
            [("bearer", {"realm": "a", "scope": "", "error": "invalid_token"})],
        ),
        ('Bearer realm="a, \\"b\\" Basic realm=c"', [("bearer", {"realm": 'a, "b" Basic realm=c'})]),
        ('Basic realm="x", Bearer realm="y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Negotiate YWJj==, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        (', ,Basic realm="x",,', [("basic", {"realm": "x"})]),
        ('Bearer realm="first",realm="second"', [("bearer", {"realm": "first"})]),
        ('Bearer realm="first", Bearer realm="second",service="s"', [("bearer", {"realm": "first"})]),
    ],
)
def test_challenges_are_read(header: str, wanted: list[tuple[str, dict[str, str]]]) -> None:
    assert list(parse_challenges(header).items()) == wanted


@pytest.mark.parametrize(
    "header",
    [
        'Bearer realm="open',
        '"Bearer"',
        "Basic realm=a b=c",
        "=",
        'Bearer realm="x" "y"',
        "Bearer a=b;c=d",
        "Negotiate YWJj==, a=b",
    ],
)
def test_unreadable_challenges_are_an_error(header: str) -> None:
    with pytest.raises(ValueError, match="not a challenge"):
        parse_challenges(header)


@given(st.text(alphabet='Bearer ="\\,~é\n', max_size=60))
def test_no_text_does_worse_than_value_error(header: str) -> None:
    with suppress(ValueError):
        parse_challenges(header)
