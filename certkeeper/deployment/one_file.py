"""The boot client as one file: `one_file` is the text to read, `shrunk` is what user data carries."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits

from certkeeper import __version__
from certkeeper.client.arguments import Options
from certkeeper.client.aws import suffixes
from certkeeper.client.timer import units
from certkeeper.deployment.folding import fold, walk

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
    "client/timer.py",
    "client/pull.py",
    "client/__main__.py",
)
_SHEBANG = "#!/usr/bin/env -S python3 -I -S\n"
_HEADER = f'''{_SHEBANG}"""certkeeper-pull {__version__}: fetch a certificate, prove it, install it in one atomic step.

Made of certkeeper's modules, put one after the other without a change; what this program never uses is left out.
Python 3.9 or later, nothing else. Run it as: python3 -I -S certkeeper-pull --help
"""

from __future__ import annotations

import gc

gc.disable()  # this lives for a moment, and most of its garbage would be its imports
'''

# What an instance can do without, and the value that stands in its place.
_NOT_IN_USER_DATA: dict[str, object] = {
    "_container_role()": "",  # on EC2 the role comes from the instance metadata service
    "_from_here()": "",  # nothing: user data names its folder from / on
    "_check_values()": None,  # of fields that a pull takes no word from: it proves the pair by a handshake
    "_NO_METADATA": "is an instance role attached?",
    "_ROOTS_HINT": "update this machine's CA certificates",
    "options.asks_for": "",
    "sys.flags.no_site": 1,
}
# In place of the client's own: the command line is known, and another one is not taken.
_OPTIONS = """
class Options:
    def __init__(self, argv):
        self.boot, self.install_timer = argv == ["--boot"], argv == ["--install-timer"]
        if argv and not (self.boot or self.install_timer):
            raise SettingsError({refusal!r}, "give it no words")
"""
# All that a pull reads of a document.
_FIELDS_IN_USER_DATA = (
    *("format", "name", "revision", "identifiers", "fullchain_pem", "sealing", "sealed_private_key", "kms_key_arn"),
)
# Attributes of ours that the standard library's objects have as well: they keep their names.
ALSO_FOREIGN = (
    *("check_hostname", "close", "context", "minimum_version", "name", "new", "options", "pending", "prefix", "quiet"),
    *("run", "socket", "values", "verify_flags", "wait"),
)


def one_file() -> str:
    """The program's text: the same for the same modules, byte by byte."""
    sources = {module: (_PACKAGE / module).read_text(encoding="utf-8") for module in _MODULES}
    trees = {module: ast.parse(source) for module, source in sources.items()}
    used = {name for tree in trees.values() for name in _names_used(tree)}
    imports: set[str] = set()
    bodies: list[str] = []
    for module, source in sources.items():
        found, body = _parted(source, trees[module], used)
        imports |= found
        bodies.append(f"# ---- certkeeper/{module}\n\n{body}")
    ours = f'__version__ = "{__version__}"\n'
    return _HEADER + "\n".join(sorted(imports, key=_import_order)) + "\n\n" + ours + "\n" + "\n\n".join(bodies)


def shrunk(words: Sequence[str], more: Mapping[str, object] | None = None) -> str:
    """The same program for EC2 and one command line alone: with short names, without comments, types and all that this
    command line has no use for. It takes no words but --boot. `more` are further values of constants.
    """
    options = Options(list(words))
    known = {f"options.{name}": value for name, value in vars(options).items() if name != "boot"}
    if options.install_timer:
        del known["options.install_timer"]
    known |= {**_NOT_IN_USER_DATA, "units()": units([], options), "is_owned_as_asked()": True, **(more or {})}
    if options.region:  # the key's is in the same partition
        known["suffixes()"] = suffixes(options.region)
    if options.owner:
        del known["is_owned_as_asked()"]
    tree = _Bare().visit(ast.parse(one_file()))
    said = _OPTIONS.format(refusal=f"this program was made for {' '.join(options.names)} --from {options.source} alone")
    (own,) = ast.parse(said).body
    tree.body = [own if _defined(one) == "Options" else one for one in tree.body]
    fold(tree, known, ALSO_FOREIGN)
    tree = ast.fix_missing_locations(_Percent().visit(tree))
    _rename(tree)
    first = f"# certkeeper-pull {__version__}, shrunk; the text to read is certkeeper/client"
    text = "\n".join(map(_without_parentheses, ast.unparse(tree).split("\n")))
    return "\n".join([_SHEBANG.strip(), first, *_one_liners([*_tight(text)])]) + "\n"


def _parted(source: str, tree: ast.Module, used: set[str]) -> tuple[set[str], str]:
    """The imports of the standard library, and the rest without what nobody uses."""
    lines = source.splitlines()
    imports: set[str] = set()
    left_out: set[int] = set()
    for node in tree.body:
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


def _names_used(tree: ast.Module) -> set[str]:
    """Names that are read somewhere, an import of ours not counted."""
    return {node.id for node in walk(tree) if isinstance(node, ast.Name)} | {"main"}


def _without_wide_gaps(lines: list[str]) -> str:
    kept: list[str] = []
    for line in lines:
        if line or kept[-2:] != ["", ""]:
            kept.append(line)
    return "\n".join(kept).strip("\n") + "\n"


def _import_order(text: str) -> tuple[bool, str]:
    return text.startswith("from"), text


class _Bare(ast.NodeTransformer):
    """Without docstrings, annotations and what is not in user data."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        node.returns = None
        for argument in [one for one in walk(node.args) if isinstance(one, ast.arg)]:
            argument.annotation = None
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        self.generic_visit(node)
        return None if isinstance(node.value, ast.Constant) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module in ("__future__", "collections.abc") else node  # of use to annotations alone

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value) if node.value else None

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        defined = _defined(node)
        if defined == "HELP":
            node.value = ast.Constant(str(ast.literal_eval(node.value)).partition("\n")[0])
        elif defined in ("_REQUIRED", "_OPTIONAL") and isinstance(node.value, ast.Dict):
            fields = zip(node.value.keys, node.value.values, strict=True)
            kept = [(field, kind) for field, kind in fields if ast.literal_eval(field or node) in _FIELDS_IN_USER_DATA]
            node.value = ast.Dict([field for field, _ in kept], [kind for _, kind in kept])
        return node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        self.generic_visit(node)
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else node


class _Percent(ast.NodeTransformer):
    """f-strings become `%`, which is the same in every Python."""

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        node.value = self.visit(node.value)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        self.generic_visit(node)
        text, values = "", []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                spec = ast.unparse(part.format_spec)[2:-1] if part.format_spec else "s"
                text += "%r" if part.conversion == ord("r") else f"%{spec}"
                values.append(part.value)
            elif isinstance(part, ast.Constant):
                text += str(part.value).replace("%", "%%")
        alone = len(values) == 1 and not isinstance(values[0], ast.Tuple)  # nor is any value that the client shows
        return ast.BinOp(ast.Constant(text), ast.Mod(), values[0] if alone else ast.Tuple(values, ast.Load()))


def _defined(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return node.name if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else ""


def _rename(tree: ast.Module) -> None:
    """Short names for all that only this program defines: A for what is global, a within a function, .a on objects."""
    places = list(_places(tree))
    own = attributes(tree)
    imported = {
        name.name for node in walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for name in node.names
    }
    said = {"main", "__version__", *imported, *_said(tree)}
    taken = {getattr(node, field) for node, field in places} | {"as", "if", "in", "is", "or"}
    methods = [one for node in tree.body if isinstance(node, ast.ClassDef) for one in node.body]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    on_objects = [isinstance(node, ast.Attribute) or node in methods for node, _ in places]
    objects = [place for place, is_on_object in zip(places, on_objects, strict=True) if is_on_object]
    _shorten(objects, own - said - {*ALSO_FOREIGN}, _short_names(ascii_letters, taken))
    for function in [*functions, *methods]:
        within = [place for place in _places(function) if not isinstance(place[0], ast.Attribute)][1:]
        local = {getattr(node, field) for node, field in within if _defines(node)}
        kept = imported | (said & {one.arg for one in walk(function) if isinstance(one, ast.arg)})
        _shorten(within, local - kept, _short_names(ascii_lowercase, taken))
    outside = [place for place, is_on_object in zip(places, on_objects, strict=True) if not is_on_object]
    _shorten(outside, {_defined(node) for node in tree.body} - said, _short_names(ascii_uppercase, taken))


def _shorten(places: list[tuple[ast.AST, str]], wanted: set[str], names: Iterator[str]) -> None:
    """Rename the wanted words at these places: the earliest first, or where there are many, the most frequent."""
    words = [getattr(node, field) for node, field in places]
    counted = Counter(word for word in words if word in wanted and not word.startswith("__"))
    order = sorted(counted, key=lambda word: (-counted[word], word)) if len(counted) > 52 else list(counted)
    short = {word: next(names) for word in order}
    for (node, field), word in zip(places, words, strict=True):
        setattr(node, field, short.get(word, word))


def _short_names(first: str, taken: set[str]) -> Iterator[str]:
    pool = (one + other for other, one in product(["", *ascii_letters, *digits], first))
    return (word for word in pool if word not in taken)


def _without_parentheses(line: str) -> str:
    """A line of a program without those that it means the same without."""
    meant = _meaning(line)
    for begin in [n for n, letter in enumerate(line) if letter == "("]:
        end = begin + 1
        while line.count("(", begin, end) > line.count(")", begin, end) and end < len(line):
            end += 1
        without = f"{line[:begin]} {line[begin + 1 : end - 1]} {line[end:]}"  # as long as before
        line = without if meant and _meaning(without) == meant else line
    return line


def _meaning(line: str) -> str:
    """What Python reads in a line, be it the first of a block; "" for one without a meaning of its own, like `try:`."""
    line = line.strip()
    before = "if 0:pass\n" if line.startswith(("elif ", "else:")) else "try:pass\n" if line.startswith("except") else ""
    try:
        return ast.dump(ast.parse(before + line + " pass" * line.endswith(":")))
    except SyntaxError:
        return ""


def _tight(text: str) -> Iterator[str]:
    """The lines of a program without the spaces that only eyes need."""
    line = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NEWLINE, tokenize.NL):
            yield from [line] if line else []
            line = ""
        elif token.type not in (tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
            apart = _is_word(line[-1:]) and (_is_word(token.string[0]) or token.string[0] in "'\"")
            line += (" " if apart else "") + token.string if line else " " * (token.start[1] // 4) + token.string


def _one_liners(lines: list[str]) -> Iterator[str]:
    """Simple statements that follow one another share a line, and where they are a whole block, go behind its colon."""
    joined = [""]
    for line in lines:
        is_next = joined[-1][-1:] not in ("", ":") and line[-1] != ":" and _depth(line) == _depth(joined[-1])
        joined[-1:] = [f"{joined[-1]};{line.strip()}"] if is_next else [joined[-1], line]
    depth = [*map(_depth, joined), 0]
    for n, line in enumerate(joined):
        if line[-1:] == ":" and joined[n + 1][-1] != ":" and depth[n + 2] <= depth[n]:
            joined[n : n + 2] = ["", line + joined[n + 1].strip()]
    return filter(None, joined)


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every place where a word of the program stands: (node, its field)."""
    fields = {ast.Name: "id", ast.Attribute: "attr", ast.arg: "arg", ast.FunctionDef: "name", ast.ClassDef: "name"}
    for node in walk(tree):
        field = fields.get(type(node), "name" if isinstance(node, ast.ExceptHandler) and node.name else "")
        if field:
            yield node, field


def attributes(tree: ast.Module) -> set[str]:
    """The methods and attributes that are set here, be it on objects of others."""
    methods = {one for node in tree.body if isinstance(node, ast.ClassDef) for one in map(_defined, node.body)}
    return methods | {node.attr for node in walk(tree) if isinstance(node, ast.Attribute) and _defines(node)}


def _defines(node: ast.AST) -> bool:
    return not isinstance(node, (ast.Name, ast.Attribute)) or isinstance(node.ctx, ast.Store)


def _said(tree: ast.Module) -> Iterator[str]:
    """Words that are said to others as keywords and by getattr."""
    for node in walk(tree):
        if isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
            yield str(ast.literal_eval(node.args[1]))
