"""The diagram in the documentation is the one that the code draws."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_state_diagram_is_drawn_from_the_code():
    spec = importlib.util.spec_from_file_location("draw_states", DOCS / "draw_states.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert (DOCS / "states.svg").read_text() == module.draw()
