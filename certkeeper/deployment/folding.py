"""Fold a program by what is known of it beforehand: constants in place of names, and away with what they rule out.

For our own client only, which keeps to what these rules take for granted: methods and attributes of its classes have
names of their own, only calls have effects, and nothing is reached by a name in a text.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

_CALLABLE = {"bool": bool, "len": len, "max": max, "str": str}
_HARMLESS = ("frozenset", "Owner")  # whose calls have no effect but their value
_NO_NODES = (
    *("arg", "asname", "attr", "conversion", "ctx", "id", "is_async", "kind", "level", "module", "name", "op", "ops"),
    *("simple", "type_comment"),
)
_OF_WORDS = (ast.Constant, ast.Global, ast.Nonlocal)
_PARTS = {
    kind: () if kind in _OF_WORDS else tuple(field for field in kind._fields if field not in _NO_NODES)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
"""By kind of node: its fields that hold nodes."""
_SHORT = 8  # letters of a constant that cost no more than a name


def fold(tree: ast.Module, known: Mapping[str, object], also_foreign: Collection[str] = ()) -> None:
    """Fold until nothing changes any more.

    `known` gives the values of expressions as they are written, like `options.into`, which also stands for
    `self.options.into`, and of calls, like `units()`, whatever their arguments. `also_foreign` are names of methods and
    attributes that objects of others have as well: they are left alone. Functions need no annotations.
    """
    before: list[type[ast.AST]] = []
    expressions = _Fold(known)
    while (now := _kinds(tree)) != before:
        before = now
        expressions.visit(tree)
        _drop_unused(tree, also_foreign)
        words = _Words(tree)
        _pass_on_arguments(tree, also_foreign, words)
        _pass_on_attributes(tree, also_foreign, words)
        _pass_on_variables(tree, words)
    ast.fix_missing_locations(tree)


class _Transformer(ast.NodeTransformer):
    """The same in half the time: it looks at nothing that holds no nodes."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for field in _PARTS[type(node)]:
            value = getattr(node, field)
            if type(value) is list:
                left: list[ast.AST | None] = []
                for one in value:
                    found = self.visit(one) if one is not None else None
                    if type(found) is list:
                        left += found
                    elif found is not None or one is None:
                        left.append(found)
                value[:] = left
            elif value is not None:
                setattr(node, field, self.visit(value))
        return node


# ---- expressions, and the statements that depend on them


class _Fold(_Transformer):
    """One pass over all of them."""

    def __init__(self, known: Mapping[str, object]) -> None:
        self.known = known
        self.words = {text.removesuffix("()").rpartition(".")[2] for text in known}
        self.before: dict[ast.AST, list[type[ast.AST]]] = {}

    def visit(self, node: ast.AST) -> Any:
        folded = super().visit(node)
        if isinstance(folded, (ast.Attribute, ast.Name, ast.Call)):
            return self._known(folded) or _computed(folded) or folded
        return _computed(folded) or folded if isinstance(folded, ast.expr) else folded

    def _known(self, node: ast.Attribute | ast.Name | ast.Call) -> ast.expr | None:
        word = _name(node.func if isinstance(node, ast.Call) else node).lstrip(".")
        if word not in self.words or isinstance(getattr(node, "ctx", None), ast.Store):
            return None
        text = f"{word}()" if isinstance(node, ast.Call) else ast.unparse(node).removeprefix("self.")
        return _literal(self.known[text]) if text in self.known else None

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Not again if the last pass changed nothing, nor anybody else."""
        now = _kinds(node)
        if now != self.before.get(node):
            self.before[node] = now
            self.generic_visit(node)
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        node.value = self.visit(node.value)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        self.generic_visit(node)
        parts: list[ast.expr] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and part.conversion == -1 and part.format_spec is None:
                part = ast.Constant(str(part.value.value)) if isinstance(part.value, ast.Constant) else part
            if parts and isinstance(part, ast.Constant) and isinstance(parts[-1], ast.Constant):
                parts[-1] = ast.Constant(str(parts[-1].value) + str(part.value))
            else:
                parts.append(part)
        node.values = parts
        return parts[0] if len(parts) == 1 and isinstance(parts[0], ast.Constant) else node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        values: list[ast.expr] = []
        for value in node.values:
            decided = _is_literal(value) and bool(_value(value)) is isinstance(node.op, ast.Or)
            if decided or value is node.values[-1] or not _is_literal(value):
                values.append(value)
            if decided:
                break
        node.values = values
        return values[0] if len(values) == 1 else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        node.operand = _asked(node.operand) if isinstance(node.op, ast.Not) else node.operand
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        node.test = _asked(node.test)
        if not _is_literal(node.test):
            return node
        return node.body if _value(node.test) else node.orelse

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        self.generic_visit(node)
        node.test = _asked(node.test)
        if _is_literal(node.test):
            return node.body if _value(node.test) else node.orelse
        if not node.body and node.orelse:
            node.test, node.body, node.orelse = ast.UnaryOp(ast.Not(), node.test), node.orelse, []
        if node.body:
            return node
        return None if _is_pure(node.test) else ast.Expr(node.test)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        """One target and one value each, where that is the same."""
        self.generic_visit(node)
        first, value = node.targets[0], node.value
        if len(node.targets) > 1 and _is_constant(value):
            return [_assigned(target, value) for target in node.targets]
        if isinstance(first, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(first.elts, value.elts, strict=True))
            if not any(_touches(target, value.elts[n:]) for n, target in enumerate(first.elts, 1)):
                return [_assigned(*pair) for pair in pairs]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        self.generic_visit(node)
        return None if _is_literal(node.value) else node

    def visit_Pass(self, node: ast.Pass) -> None:
        return None  # put back where it is needed

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                end = next(
                    (n for n, one in enumerate(block, 1) if isinstance(one, (ast.Return, ast.Raise))), len(block)
                )
                del block[end:]
        if not isinstance(node, ast.If):
            _filled(node)
        return node


def _filled(node: ast.AST) -> None:
    if getattr(node, "body", None) == []:
        node.body = [ast.Pass()]  # type: ignore[attr-defined] # checked before


def _assigned(target: ast.expr, value: ast.expr) -> ast.Assign:
    return ast.Assign([target], value, lineno=1)


def _touches(target: ast.expr, later: list[ast.expr]) -> bool:
    """Whether it can make a difference to these expressions that something is assigned before."""
    asked = {_name(one) for value in later for one in walk(value)}
    return _name(target) in asked or (not isinstance(target, ast.Name) and not all(map(_is_pure, later)))


def _asked(test: ast.expr) -> ast.expr:
    """A test, of which only counts whether it is true."""
    if not isinstance(test, ast.BoolOp) or not _is_literal(test.values[-1]):
        return test
    last = bool(_value(test.values[-1]))
    if last is not isinstance(test.op, ast.Or):
        test.values.pop()
    elif all(map(_is_pure, test.values)):
        return ast.Constant(last)
    return test.values[0] if len(test.values) == 1 else test


def _computed(node: ast.expr) -> ast.expr | None:
    """What an operation on literals comes to, if that is no longer than itself."""
    on: list[ast.expr | None]
    if isinstance(node, ast.BinOp):
        on = [node.left, node.right]
    elif isinstance(node, ast.Compare):
        on = [node.left, *node.comparators]
    elif isinstance(node, ast.UnaryOp):
        on = [node.operand]
    elif isinstance(node, ast.Subscript):
        on = [
            node.value,
            *([node.slice.lower, node.slice.upper] if isinstance(node.slice, ast.Slice) else [node.slice]),
        ]
    elif isinstance(node, ast.Call) and (isinstance(node.func, ast.Attribute) or _name(node.func) in _CALLABLE):
        on = [*node.args, *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
    else:
        return None
    if _is_literal(node) or not all(one is None or _is_literal(one) for one in on) or getattr(node, "keywords", None):
        return None
    text = ast.unparse(node)
    try:
        found = _literal(eval(text, {"__builtins__": _CALLABLE}))  # noqa: S307 - of our own source, without other names
    except Exception:  # noqa: BLE001 - whatever it is, the program will meet it when it runs
        return None
    return found if len(ast.unparse(found)) <= len(text) else None


def _literal(value: object) -> ast.expr:
    """Raises ValueError if there is none."""
    text = repr(value)
    if ast.literal_eval(text) != value:
        raise ValueError(text)
    return ast.parse(text, mode="eval").body


def _is_literal(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return all(map(_is_literal, node.elts))
    if isinstance(node, ast.Dict):
        return all(one is not None and _is_literal(one) for one in [*node.keys, *node.values])
    return isinstance(node, ast.Constant)


def _is_constant(node: ast.AST) -> bool:
    """A literal that two may share."""
    return _is_literal(node) and isinstance(node, (ast.Constant, ast.UnaryOp))


def _value(node: ast.expr) -> object:
    return ast.literal_eval(node)


def _is_pure(node: ast.AST) -> bool:
    return all(not isinstance(one, ast.Call) or _name(one.func) in _HARMLESS for one in walk(node))


def walk(node: ast.AST) -> list[ast.AST]:
    """All that can have a name in it or around it; in the order of `ast.walk`, and much faster."""
    found = [node]
    for one in found:  # which grows meanwhile
        for field in _PARTS[type(one)]:
            value = getattr(one, field)
            if type(value) is list:
                found += [item for item in value if item is not None]
            elif value is not None:
                found.append(value)
    return found


def _kinds(node: ast.AST) -> list[type[ast.AST]]:
    """By which it is seen whether anything was changed: whatever is folded becomes fewer nodes or other ones."""
    return [type(one) for one in walk(node)]


def _name(node: ast.AST) -> str:
    """A word, with a dot before an attribute's; "" of anything else."""
    if isinstance(node, ast.Attribute):
        return f".{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


# ---- functions and what is passed on to them


def _scopes(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef, bool]]:
    """The functions and methods: what each is called by (a method with a dot before it, `__init__` by its class's
    name, "" if that may be a base), and whether it has a `self`."""
    bases = {_name(base) for node in tree.body if isinstance(node, ast.ClassDef) for base in node.bases}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node, False
        elif isinstance(node, ast.ClassDef):
            own = "" if node.name in bases else node.name
            for one in node.body:
                if isinstance(one, ast.FunctionDef):
                    yield own if one.name == "__init__" else f".{one.name}", one, True


class _Words:
    """Where the words of a scope are set and asked for, and what of it is called."""

    def __init__(self, scope: ast.AST) -> None:
        self.calls: defaultdict[str, list[ast.Call]] = defaultdict(list)
        found: tuple[list[str], list[str]] = [], []
        for one in walk(scope):
            if isinstance(one, (ast.Name, ast.Attribute)):
                found[isinstance(one.ctx, ast.Load)].append(_name(one))
            elif isinstance(one, ast.Call):
                self.calls[_name(one.func)].append(one)
            elif isinstance(one, ast.arg):
                found[False].append(one.arg)
            elif isinstance(one, ast.ExceptHandler) and one.name:
                found[False].append(one.name)
        self.set, self.asked = Counter(found[False]), Counter(found[True])


def _pass_on_arguments(tree: ast.Module, also_foreign: Collection[str], words: _Words) -> None:
    """A parameter that is the same constant in every call is none; nor is one that nothing asks for."""
    scopes, calls = list(_scopes(tree)), words.calls
    for name, function, with_self in scopes:
        only_called = len(calls[name]) == words.asked[name] and not words.set[name]
        alone = [one for one, _, _ in scopes].count(name) == 1 and name.lstrip(".") not in also_foreign
        starred = any(isinstance(one, ast.Starred) for call in calls[name] for one in call.args)
        if not only_called or not alone or starred or function.args.vararg:
            continue
        within, constants = _Words(function), {}
        for parameter in [one.arg for one in function.args.args[with_self:]]:
            given = [_given(function, with_self, call, parameter) for call in calls[name]]
            if len({ast.dump(one) for one in given}) == 1 and _is_literal(given[0]) and within.set[parameter] == 1:
                constants[parameter] = given[0]
            elif within.asked[parameter] or not given or not all(map(_is_pure, given)):
                continue
            for call in calls[name]:
                _without_argument(function, with_self, call, parameter)
            _without_parameter(function, parameter)
        _Replace(constants).visit(function)


def _given(function: ast.FunctionDef, with_self: bool, call: ast.Call, parameter: str) -> ast.expr:
    names = [one.arg for one in function.args.args]
    place = names.index(parameter) - with_self
    if place < len(call.args):
        return call.args[place]
    said = [one.value for one in call.keywords if one.arg == parameter]
    return said[0] if said else function.args.defaults[names.index(parameter) - len(names)]


def _without_argument(function: ast.FunctionDef, with_self: bool, call: ast.Call, parameter: str) -> None:
    place = [one.arg for one in function.args.args].index(parameter) - with_self
    del call.args[place : place + 1]
    call.keywords = [one for one in call.keywords if one.arg != parameter]


def _without_parameter(function: ast.FunctionDef, parameter: str) -> None:
    names = [one.arg for one in function.args.args]
    default = names.index(parameter) - len(names)
    if -default <= len(function.args.defaults):
        del function.args.defaults[default]
    del function.args.args[default]


def _pass_on_attributes(tree: ast.Module, also_foreign: Collection[str], words: _Words) -> None:
    """An attribute that is set once, and to a constant, is that constant."""
    starts = [function for _, function, _ in _scopes(tree) if function.name == "__init__"]
    found = [constant for function in starts for constant in _constants(function.body)]
    ours = {name: value for name, value in found if name[0] == "." and name[1:] not in also_foreign}
    _Replace({name: value for name, value in ours.items() if words.set[name] == 1}).visit(tree)


def _pass_on_variables(tree: ast.Module, words: _Words) -> None:
    """So is a variable of a function; and one of the module, if it is asked for once or short."""
    for _, function, _ in _scopes(tree):
        found = {name: value for name, value in _constants(walk(function)) if name[0] != "."}
        if found:
            within = _Words(function)
            _Replace({name: value for name, value in found.items() if within.set[name] == 1}).visit(function)
    found = {name: value for name, value in _constants(tree.body) if words.set[name] == 1 and name[0] != "."}
    cheap = {name for name, value in found.items() if words.asked[name] == 1 or len(ast.unparse(value)) <= _SHORT}
    _Replace({name: value for name, value in found.items() if name in cheap}).visit(tree)


def _constants(statements: Iterable[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    for node in statements:
        if (
            isinstance(node, ast.Assign)
            and _is_constant(node.value)
            and list(map(bool, map(_name, node.targets))) == [True]
        ):
            yield _name(node.targets[0]), node.value


class _Replace(_Transformer):
    """Values in place of words, where these are asked for."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self.values = values

    def visit(self, node: ast.AST) -> Any:
        return super().visit(node) if self.values else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.values.get(node.id, node) if isinstance(node.ctx, ast.Load) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        return self.values.get(f".{node.attr}", node) if isinstance(node.ctx, ast.Load) else node


# ---- what nothing asks for any more


def _drop_unused(tree: ast.Module, also_foreign: Collection[str]) -> None:
    """Imports, definitions and assignments, where to leave them out changes nothing else."""
    asked = _Words(tree).asked

    def is_kept(name: str) -> bool:
        return bool(asked[name]) or name in ("main", ".__init__") or (name[:1] == "." and name[1:] in also_foreign)

    tree.body = [node for node in tree.body if any(map(is_kept, _defined(node)))]
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            node.body = [one for one in node.body if not isinstance(one, ast.FunctionDef) or is_kept(f".{one.name}")]
            node.body = [one for one in node.body if not _is_empty_start(one)]
            _filled(node)
    for _, function, _ in _scopes(tree):
        words = _Words(function)
        unused = {name for name in words.set if not (words.asked[name] or (name[0] == "." and is_kept(name)))}
        if unused:
            _Without(unused).visit(function)


def _defined(node: ast.stmt) -> list[str]:
    """The names that are of use through a statement alone; "main", which is kept, where it does something else."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [one.asname or one.name for one in node.names]
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    names = [_name(one) for one in node.targets] if isinstance(node, ast.Assign) and _is_pure(node.value) else []
    return names if all(names) and names else ["main"]


def _is_empty_start(node: ast.stmt) -> bool:
    pure = isinstance(node, ast.FunctionDef) and all(isinstance(one, ast.Pass) for one in node.body)
    return pure and isinstance(node, ast.FunctionDef) and node.name == "__init__"


class _Without(_Transformer):
    """Without assignments to these names, where they do nothing else."""

    def __init__(self, unused: Collection[str]) -> None:
        self.unused = unused

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        _filled(node)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        unused = all(_name(one) in self.unused for one in node.targets)
        return None if unused and _is_pure(node.value) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | None:
        name = _name(node.target)
        unused = name in self.unused and name[0] != "."
        return None if unused and _is_pure(node.value) else node
