"""The Python in the documentation: which blocks a page has, and running them.

The blocks of a page run in order, in one namespace. A block under a comment `<!-- needs: sshd docker -->` runs only
where those fixtures of the test world are. A line `expression  # → value` is checked: the value's repr is what it shows.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>[\w ]+) -->\n)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_SHOWN = re.compile(r"^( *)(\S.*?)  # → (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block: its code, the line before it, and the fixtures that it needs."""

    code: str
    line: int
    needs: tuple[str, ...]


def name(page):
    return str(page.relative_to(ROOT))


def blocks(page):
    text = page.read_text()
    return [
        Block(found["code"], text.count("\n", 0, found.start("code")), tuple((found["needs"] or "").split()))
        for found in _BLOCK.finditer(text)
    ]


def _check(value, shown):
    assert repr(value) == shown, f"the page shows {shown}"


def run(page, chosen, accounts=(), **names):
    """Run blocks of a page, with `names` given, so that errors point into the page.

    `accounts`: {an account as the page's examples call it: the one that plays it}, where a block needs something.
    """
    namespace = {"__name__": "page", "_check": _check, **names}
    before = dict(os.environ)
    try:
        for block in chosen:
            code = _SHOWN.sub(lambda line: f"{line[1]}_check(({line[2]}), {line[3]!r})", block.code)
            for shown in accounts if block.needs else ():
                code = code.replace(f'sudo("{shown}")', f'sudo("{accounts[shown]}")')
            exec(compile("\n" * block.line + code, str(page), "exec"), namespace)
    finally:
        os.environ.clear()
        os.environ.update(before)
