"""Sphinx: `make docs`. MyST reads Markdown and notebooks, autodoc the docstrings, and all of it works offline."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

project = "adapler_jax"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "adapler_jax"
nb_execution_mode = (
    "off"  # `make docs` executes the notebook in small; the outputs shown are of the committed run
)
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_rtype = False
