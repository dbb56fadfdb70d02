"""The docs site: Sphinx, with pages in Markdown (MyST) and the furo theme.

Built by ``make check`` with warnings as errors.
"""

from importlib import metadata

project = "hashring"
author = "The hashring-ha developers"
project_copyright = f"2026, {author}"
release = metadata.version("hashring-ha")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]

html_theme = "furo"
html_title = f"hashring {release}"
exclude_patterns = ["_build", "**/.pytest_cache", "**/.hypothesis"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
