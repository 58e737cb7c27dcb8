"""
Describe a command by its own parser, so that the page cannot fall behind the program.

``.. command-line:: module:function`` calls a function that returns an `argparse.ArgumentParser` and
lists the usage, the arguments and the options, group by group, and those of any subcommands.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class CommandLine(SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, function = self.arguments[0].partition(":")
        imported = import_module(module)
        self.env.note_dependency(imported.__file__)
        lines = StringList(list(_describe(getattr(imported, function)())), source=self.arguments[0])
        return self.parse_text_to_nodes(lines, allow_section_headings=True)


def _describe(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the description of a parser in reStructuredText."""
    yield from (f".. program:: {parser.prog}", "")
    yield from (_plain(parser.description or ""), "")
    yield from (".. code-block:: text", "")
    yield from (f"   {line}" for line in _usage(parser))
    yield ""
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if actions and not isinstance(actions[0], argparse._SubParsersAction):
            yield from (f".. rubric:: {group.title}", "")
            for action in actions:
                yield from (f".. option:: {_signature(action)}", "")
                yield from (f"   {_plain(_help(parser, action))}", "")
    if parser.epilog:
        yield from (_plain(parser.epilog), "")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from (f".. rubric:: {command.prog}", "")
                yield from _describe(command)


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    """Return the lines of the usage, at a width that does not depend on the terminal."""
    formatter = argparse.HelpFormatter(parser.prog, width=90)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help().rstrip().splitlines()


def _signature(action: argparse.Action) -> str:
    """Return the names of an option and what it takes."""
    if not action.option_strings:
        return action.metavar or action.dest
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    choices = None if action.choices is None else "{" + "|".join(map(str, action.choices)) + "}"
    value = action.metavar or choices or action.dest.upper()
    return ", ".join(f"{name} {value}" for name in action.option_strings)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return the help of an option with its default filled in."""
    return (action.help or "") % (vars(action) | {"prog": parser.prog})


def _plain(text: str) -> str:
    """Return text without markup."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
