"""The boot client as one file: what instances run, and what `user-data` carries."""

from __future__ import annotations

import ast
from pathlib import Path

from certkeeper import __version__

_PACKAGE = Path(__file__).parent.parent
# In the order in which they need each other.
_MODULES = (
    "core/errors.py",
    "core/document.py",
    "client/sigv4.py",
    "client/wire.py",
    "client/aws.py",
    "client/proof.py",
    "client/install.py",
    "client/arguments.py",
    "client/pull.py",
    "client/__main__.py",
)
_HEADER = f'''#!/usr/bin/env -S python3 -I -S
"""certkeeper-pull {__version__}: fetch a certificate, prove it, install it in one atomic step.

Made of certkeeper's modules, put one after the other without a change; what this program never uses is left out.
Python 3.9 or later, nothing else. Run it as: python3 -I -S certkeeper-pull --help
"""

from __future__ import annotations

'''


def one_file() -> str:
    """The program's text: the same for the same modules, byte by byte."""
    sources = {module: (_PACKAGE / module).read_text(encoding="utf-8") for module in _MODULES}
    used = {name for source in sources.values() for name in _names_used(source)}
    imports: set[str] = set()
    bodies: list[str] = []
    for module, source in sources.items():
        found, body = _parted(source, used)
        imports |= found
        bodies.append(f"# ---- certkeeper/{module}\n\n{body}")
    ours = f'__version__ = "{__version__}"\n'
    return _HEADER + "\n".join(sorted(imports, key=_import_order)) + "\n\n" + ours + "\n" + "\n\n".join(bodies)


def _parted(source: str, used: set[str]) -> tuple[set[str], str]:
    """The imports of the standard library, and the rest without what nobody uses."""
    lines = source.splitlines()
    imports: set[str] = set()
    left_out: set[int] = set()
    for node in ast.parse(source).body:
        begin = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        span = range(begin, (node.end_lineno or begin) + 1)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            text = ast.unparse(node)
            if not text.startswith(("from certkeeper", "from __future__")):
                imports.add(text)
            left_out.update(span)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name not in used:
            left_out.update(span)
    kept = [line for number, line in enumerate(lines, 1) if number not in left_out]
    return imports, _without_wide_gaps(kept)


def _names_used(source: str) -> set[str]:
    """Names that are read somewhere, an import of ours not counted."""
    tree = ast.parse(source)
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {"main"}


def _without_wide_gaps(lines: list[str]) -> str:
    kept: list[str] = []
    for line in lines:
        if line or kept[-2:] != ["", ""]:
            kept.append(line)
    return "\n".join(kept).strip("\n") + "\n"


def _import_order(text: str) -> tuple[bool, str]:
    return text.startswith("from"), text
