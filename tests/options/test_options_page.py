"""docs/options.md is what the classes say."""

from scripts.options_page import PAGE, page


def test_the_page_is_written_anew_when_an_option_changes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python scripts/options_page.py"
