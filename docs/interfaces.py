"""``.. interfaces:: MODULE``: the zope Interfaces of a module, which autodoc takes for values."""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from zope.interface import Attribute
from zope.interface.interface import InterfaceClass, Method


class Interfaces(SphinxDirective):
    """Write each interface as a class, with its methods and attributes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Build the nodes."""
        module = importlib.import_module(self.arguments[0])
        text = "\n".join(
            line
            for value in vars(module).values()
            if isinstance(value, InterfaceClass) and value.__module__ == module.__name__
            for line in _interface(value, module.__name__)
        )
        return self.parse_text_to_nodes(text)


def _interface(interface: Any, module: str) -> Iterator[str]:
    yield f".. py:class:: {interface.__name__}\n   :module: {module}\n"
    yield textwrap.indent(inspect.cleandoc(interface.__doc__ or ""), "   ") + "\n"
    for name in interface.names():
        member = interface[name]
        if isinstance(member, Method):
            yield f"   .. py:method:: {name}{member.getSignatureString()}\n"
        elif isinstance(member, Attribute):
            yield f"   .. py:attribute:: {name}\n"
        yield textwrap.indent(inspect.cleandoc(member.__doc__ or ""), " " * 6) + "\n"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("interfaces", Interfaces)
    return {"parallel_read_safe": True}
