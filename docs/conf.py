"""How Sphinx builds the documentation: ``sphinx-build -W -b html docs build/docs``."""

from __future__ import annotations

import sys
from pathlib import Path

from kubeedge_tx import VERSION

sys.path.insert(0, str(Path(__file__).parent))

project = "KubeEdge-TX"
copyright = "the KubeEdge-TX authors"
version = release = VERSION
highlight_language = "none"
extensions = ["sphinx.ext.autodoc", "interfaces"]
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_use_type_comments = False
html_theme = "alabaster"
html_theme_options = {
    "description": "Kubernetes for machines behind bad links",
    "page_width": "64rem",
}
html_copy_source = False
html_show_sourcelink = False
