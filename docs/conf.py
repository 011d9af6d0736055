"""How Sphinx builds the documentation: ``sphinx-build -W -b html docs build/docs``."""

from __future__ import annotations

from kubeedge_tx import VERSION

project = "KubeEdge-TX"
copyright = "the KubeEdge-TX authors"
version = release = VERSION
highlight_language = "none"
html_theme = "alabaster"
html_theme_options = {
    "description": "Kubernetes for machines behind bad links",
    "page_width": "64rem",
}
html_copy_source = False
html_show_sourcelink = False
