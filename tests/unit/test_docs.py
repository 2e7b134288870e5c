"""The documentation is true: its code runs, its links lead somewhere, each hop's page has each option."""

import re

import pytest

from outrider import errors
from outrider.hops.options import options_of
from outrider.hops.registry import built_in
from outrider.options import Options
from tests import doc_pages
from tests.doc_pages import PAGES, ROOT


@pytest.mark.parametrize("page", PAGES, ids=doc_pages.name)
def test_code_that_needs_no_server_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    doc_pages.run(page, [block for block in doc_pages.blocks(page) if not block.needs])


@pytest.mark.parametrize("page", PAGES, ids=doc_pages.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{target} is not there"


@pytest.mark.parametrize("kind", built_in(), ids=lambda kind: kind.name)
def test_each_hop_has_a_page_with_its_options_an_example_and_pitfalls(kind):
    page = ROOT / "docs" / "hops" / f"{kind.name}.md"
    text = page.read_text()
    shown = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    assert shown == set(options_of(kind))
    assert doc_pages.blocks(page)
    assert "## Pitfalls" in text


def test_every_option_and_every_error_is_in_the_reference():
    reference = ROOT / "docs" / "reference"
    assert set(re.findall(r"^\| `(\w+)`", (reference / "options.md").read_text(), re.MULTILINE)) == set(
        Options.__dataclass_fields__
    )
    shown = set(re.findall(r"^\| `(\w+)`", (reference / "errors.md").read_text(), re.MULTILINE))
    assert shown == {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.OutriderError)
    }
