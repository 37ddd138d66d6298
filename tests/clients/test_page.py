"""docs/clients.md says what the cases say."""

import pytest

from tests.clients.page import PAGE, TABLES, block


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_the_page_are_those_of_the_cases(name):
    found = block(name).search(PAGE.read_text())
    assert found
    assert found[0] == TABLES[name](), "write it with: python -m tests.clients.page"
