"""Functions and classes of a notebook's cells, in a real Jupyter kernel."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

# Runs the cells that it reads in a kernel of its own, and shows what each prints.
DRIVER = """
import json, sys, threading
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3")
shown = []
try:
    for cell in json.load(sys.stdin):
        said = []
        def hook(message):
            content = message["content"]
            said.append(content.get("text") or content.get("ename") or "")
        if "sleep(100)" in cell:
            threading.Timer(3, manager.interrupt_kernel).start()
        client.execute_interactive(cell, timeout=60, output_hook=hook)
        shown.append("".join(said).strip())
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
print(json.dumps(shown))
"""
CELLS = {
    "from outrider import Route, local\nfar = Route(local()).options(show=False).open()": "",
    "def work(x):\n    return x + 1\nprint(far.call(work, 1))": "2",
    "def work(x):\n    return x * 100\nprint(far.call(work, 1))": "100",
    """
FACTOR = 3
def work(x):
    return helping(x) * FACTOR
def helping(x):
    return x - 1
print(far.call(work, 5))
""": "12",
    """
import dataclasses, enum
class Colour(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Point:
    x: int
    colour: Colour = Colour.RED
    def moved(self):
        return Point(self.x + 1, self.colour)
there = far.call(Point(1).moved)
print(type(there) is Point, there == Point(2), there.colour is Colour.RED)
""": "True True True",
    "def several():\n    for n in range(3):\n        yield Point(n).x\nprint(list(far.call(several)))": "[0, 1, 2]",
    "async def later(x):\n    return x\nprint(far.call(later, 4))": "4",
    "print(far.options(show=True).call(print, 'shown'))": "[HOST] shown\nNone",
    "%load_ext autoreload\n%autoreload 2\nimport edited\nprint(far.call(edited.value))": "1",
    """
import pathlib, time
time.sleep(0.02)
_ = pathlib.Path('edited.py').write_text("def value():\\n    return 22\\n")
""": "",
    "print(far.call(edited.value))": "22",
    "import time\nfar.call(lambda: time.sleep(100))": "KeyboardInterrupt",
    "print(far.call(work, 5))": "12",
    "far.close()": "",
}


def test_cells_of_a_notebook(tmp_path):
    for needed in ("ipykernel", "jupyter_client"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed here: pip install ipykernel jupyter_client")
    (tmp_path / "edited.py").write_text("def value():\n    return 1\n")
    (tmp_path / "driver.py").write_text(DRIVER)
    folders = {name: str(tmp_path / name) for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "driver.py"],
        input=json.dumps(list(CELLS)),
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
        env={**clean, **folders},
    )
    assert done.returncode == 0, done.stderr
    expected = [shown.replace("HOST", os.uname().nodename) for shown in CELLS.values()]
    assert json.loads(done.stdout) == expected
