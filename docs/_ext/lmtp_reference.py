"""
The parts of the reference that are made from the code itself, so that they cannot say anything else:

- ``zope-interface:: module.IName``: an interface, with its methods and attributes;
- ``daemon-options::``: the options of ``twistd lmtp``;
- ``configuration-keys::``: the keys of its configuration file;
- ``conformance-options::``: those of the conformance kit;
- ``backend-types::``: the backends that ``--backend`` can name, and their options;
- ``sequence-table::``: which command is accepted in which state;
- ``rooms:: module module …``: modules of the package, each with what it says of itself.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from twisted.python.reflect import namedAny
from zope.interface.interfaces import IMethod


class _Generated(Directive):
    """
    Parses the reST that :meth:`source` gives.

    :cvar modules: those that it is made from: the page is read again when one of them has changed.
    """

    modules: ClassVar[tuple[str, ...]] = ()

    def source(self) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        environment = self.state.document.settings.env
        for name in (__name__, *self.modules):
            environment.note_dependency(inspect.getsourcefile(importlib.import_module(name)))
        node = nodes.container()
        self.state.nested_parse(StringList(self.source(), self.name), self.content_offset, node)
        return node.children


def _list_table(header: list[str], rows: list[list[str]], widths: str = "auto") -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in [header, *rows]:
        for index, cell in enumerate(row):
            lines.append(f"   {'* -' if index == 0 else '  -'} {cell}")
    return [*lines, ""]


class ZopeInterface(_Generated):
    """autodoc takes an interface for a variable."""

    required_arguments = 1
    modules = ("lmtp_twisted.interfaces",)

    def source(self) -> list[str]:
        interface = namedAny(self.arguments[0])
        bases = [f":class:`~{base.__identifier__}`" for base in interface.__bases__ if base.__name__ != "Interface"]
        lines = [f".. py:class:: {interface.__name__}", f"   :module: {interface.__module__}", ""]
        if bases:
            lines += _indented(f"Extends {', '.join(bases)}.")
        lines += _indented(interface.__doc__)
        for member, description in interface.namesAndDescriptions():
            is_method = IMethod.providedBy(description)
            signature = description.getSignatureString() if is_method else ""
            lines += _indented(f".. py:{'method' if is_method else 'attribute'}:: {member}{signature}\n")
            lines += _indented(description.__doc__, 2)
        return lines


def _indented(text: str, depth: int = 1) -> list[str]:
    return [*textwrap.indent(inspect.cleandoc(text), "   " * depth).split("\n"), ""]


class DaemonOptions(_Generated):
    """The same as ``twistd lmtp --help`` says, since it is made from the same class."""

    modules = ("lmtp_twisted.daemon.options",)

    def source(self) -> list[str]:
        from lmtp_twisted.daemon import Options

        options = Options()
        rows = [[f"``--{name}``", help] for name, _, help in options.optFlags]
        for name, _, default, help in options.optParameters:
            rows.append([f"``--{name}=``", help + (f" [default: {default}]" if default is not None else "")])
        own = [name for name in vars(Options) if name.startswith("opt_")]
        for name in own:
            method = getattr(options, name)
            takes = "=" if inspect.signature(method).parameters else ""
            rows.append([f"``--{name[4:].replace('_', '-')}{takes}``", " ".join((method.__doc__ or "").split())])
        return _list_table(["Option", "Meaning"], [[name, _escaped(text)] for name, text in sorted(rows)], "40 60")


class ConfigurationKeys(_Generated):
    """What is read and what is refused goes by the same table."""

    modules = ("lmtp_twisted.daemon.values", "lmtp_twisted.daemon.options", "lmtp_twisted.daemon.configuration")

    def source(self) -> list[str]:
        from lmtp_twisted.daemon import Options
        from lmtp_twisted.daemon.configuration import PLACES
        from lmtp_twisted.daemon.values import OPTIONS

        options = Options()
        rows = []
        for key, option in sorted(OPTIONS.items()):
            default = options.defaults.get(key) if not option.kind.is_list else None
            told = " ".join((options.docs[key] or "").split()).replace("; may be given again", "")
            told += f" [default: {default}]" if default else ""
            own = "one of three" if key in PLACES else "yes" if option.is_of_listener else "no"
            rows.append([f"``{key}``", _escaped(option.kind.wanted), own, _escaped(told)])
        rows += [
            ["``[backends]``", "names, with a string or a table each", "no", "See above."],
            ["``[listeners.NAME]``", "a table", "", "See above."],
        ]
        return _list_table(["Key", "Value", "Of a listener", "Meaning"], rows, "22 22 10 46")


class ConformanceOptions(_Generated):
    """The same as ``python -m lmtp_twisted.conformance --help`` says."""

    modules = ("lmtp_twisted.conformance.command",)

    def source(self) -> list[str]:
        from lmtp_twisted.conformance.command import parser

        rows = []
        for option in parser()._actions:
            if option.option_strings and option.dest != "help":
                takes = "" if option.nargs == 0 else "="
                rows.append([f"``{option.option_strings[0]}{takes}``", _escaped(option.help or "")])
        return _list_table(["Option", "Meaning"], sorted(rows), "25 75")


class BackendTypes(_Generated):
    """The same as ``--help-backends`` says, but only of the types that are part of this package."""

    modules = ("twisted.plugins.lmtp_twisted_dropin",)

    def source(self) -> list[str]:
        from lmtp_twisted.backends.plugin import BackendPlugin
        from twisted.plugins import lmtp_twisted_dropin as dropin

        lines: list[str] = []
        plugins = [plugin for plugin in vars(dropin).values() if isinstance(plugin, BackendPlugin)]
        for plugin in sorted(plugins, key=lambda plugin: plugin.backendType):
            lines += [f"``{plugin.backendType}:{plugin.argumentHelp}``", *_indented(_escaped(plugin.description))]
            for key, text in plugin.options.items():
                lines += [f"   ``,{key}=…``", *_indented(_escaped(text), 2)]
        return lines


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in "\\*`_|" else character for character in text)


class SequenceTable(_Generated):
    """From the table by which sessions go."""

    modules = ("lmtp_twisted.sequence",)

    def source(self) -> list[str]:
        from lmtp_twisted.sequence import SEQUENCE, State

        rows = []
        for verb, row in SEQUENCE.items():
            cells = [
                "✓" if refusal is None else f"``{refusal.code} {refusal.enhanced}`` {refusal.text}" for refusal in row
            ]
            rows.append([f"``{verb.decode('ascii')}``", *cells])
        return _list_table(["Command", *(state.name for state in State)], rows)


class Rooms(_Generated):
    """From the first sentences of the modules' docstrings."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        self.modules = tuple(f"lmtp_twisted.{name}" for name in self.arguments[0].split())  # type: ignore[misc]
        return super().run()

    def source(self) -> list[str]:
        rows = []
        for name in self.arguments[0].split():
            docstring = inspect.getdoc(importlib.import_module(f"lmtp_twisted.{name}")) or ""
            paragraph = " ".join(docstring.split("\n\n")[0].split())
            sentence, *_ = re.split(r"(?<=\.) (?=[A-Z`])", paragraph)
            rows.append([f"``{name}``", sentence.removesuffix("::")])
        return _list_table(["Module", "What it says of itself"], rows, "25 75")


# attrs prints NOTHING for a default that is made anew each time, and Sphinx its own aliases for interfaces.
_UNREADABLE = {re.compile(r"TypeAliasForwardRef\('([\w.]+)'\)"): r"\1", re.compile("NOTHING"): "…"}
_UNREADABLE[re.compile(r"~typing\.")] = ""


def _readable(text: str | None) -> str | None:
    for pattern, replacement in _UNREADABLE.items():
        text = text and pattern.sub(replacement, text)
    return text


def _readable_signature(
    _app: Any, _what: str, _name: str, _object: object, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    return _readable(signature), _readable(returns)


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _readable_signature)
    app.add_directive("zope-interface", ZopeInterface)
    app.add_directive("daemon-options", DaemonOptions)
    app.add_directive("configuration-keys", ConfigurationKeys)
    app.add_directive("conformance-options", ConformanceOptions)
    app.add_directive("backend-types", BackendTypes)
    app.add_directive("sequence-table", SequenceTable)
    app.add_directive("rooms", Rooms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
