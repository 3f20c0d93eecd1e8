"""Programs that are folded by what is known of them: shorter, and of the same effect."""

from __future__ import annotations

import ast

import pytest

from certkeeper.deployment.folding import fold


def folded(program: str, **known: object) -> str:
    tree = ast.parse(program)
    fold(tree, {name.replace("__", "."): value for name, value in known.items()}, ("close",))
    return ast.unparse(tree)


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("f(x if options.flag else y)", "f(y)"),
        ("f(options.flag or x)", "f(x)"),
        ("f(options.flag and x)", "f(False)"),
        ("f(x and options.flag)", "f(x and False)"),
        ("f(not (x and options.flag))", "f(True)"),
        ("f(not (x() and options.flag))", "f(not (x() and False))"),
        ("f(self.options.text + 'b')", "f('ab')"),
        ("f(options.text * 1000)", "f('a' * 1000)"),
        ("f(f'{options.text}-{x}-{options.flag}')", "f(f'a-{x}-False')"),
        ("f(f'{x:.0f}{options.text!r}')", "f(f\"{x:.0f}{'a'!r}\")"),
        ("f(options.text[9])", "f('a'[9])"),
        ("f(whatever.units(x, y))", "f({'b': 1})"),
        ("options.text = 5\nf(x.text)", "options.text = 5\nf(x.text)"),
        ("if options.flag:\n    f(1)\nelse:\n    f(2)\n    f(3)", "f(2)\nf(3)"),
        ("if x:\n    if options.flag:\n        f(1)", "pass"),
        ("if x():\n    if options.flag:\n        f(1)", "x()"),
        ("if x:\n    options.flag\nelse:\n    f(1)", "if not x:\n    f(1)"),
        ("for x in f(1):\n    if options.flag:\n        f(2)", "for x in f(1):\n    pass"),
        ("x = y = 1\nf(x, y)", "f(1, 1)"),
    ],
)
def test_what_is_known_is_folded_and_what_has_an_effect_stays(statement: str, left: str) -> None:
    assert folded(statement, options__flag=False, options__text="a", **{"units()": {"b": 1}}) == left


@pytest.mark.parametrize(
    ("program", "left"),
    [
        ("def g(a, b): return f(a, b)\nf(g(1, x), g(1, y))", "def g(b):\n    return f(1, b)\nf(g(x), g(y))"),
        ("def g(a, b=2): return f(a, b)\nf(g(x), g(y, 2))", "def g(a):\n    return f(a, 2)\nf(g(x), g(y))"),
        ("def g(a): return f(a)\nf(g(1), g(2))", "def g(a):\n    return f(a)\nf(g(1), g(2))"),
        ("def g(a): return f(a)\nf(g(1), g)", "def g(a):\n    return f(a)\nf(g(1), g)"),
        ("def g(a):\n a += 1\n return f(a)\nf(g(1))", "def g(a):\n    a += 1\n    return f(a)\nf(g(1))"),
        ("def g(a): return f(lambda a: a)\nf(g(x), g(y))", "def g(a):\n    return f(lambda a: a)\nf(g(x), g(y))"),
        ("def g(a): return f()\nf(g(x()))", "def g(a):\n    return f()\nf(g(x()))"),
        ("def g(*a): return f(a)\nf(g(1))", "def g(*a):\n    return f(a)\nf(g(1))"),
        ("def g(a): return f(a)\nf(g(*x))", "def g(a):\n    return f(a)\nf(g(*x))"),
        ("def g():\n a = 1\n return f(a)\nf(g())", "def g():\n    return f(1)\nf(g())"),
        (
            "def g():\n a = 1\n while f(a): a += 1\nf(g())",
            "def g():\n    a = 1\n    while f(a):\n        a += 1\nf(g())",
        ),
        ("def g():\n a, b = x, y\n return f(b)\nf(g())", "def g():\n    b = y\n    return f(b)\nf(g())"),
        ("def g():\n a, b = b, a\n return f(a, b)\nf(g())", "def g():\n    a, b = (b, a)\n    return f(a, b)\nf(g())"),
        ("def g():\n a = x()\n return 1\nf(g())", "def g():\n    a = x()\n    return 1\nf(g())"),
        ("import a, b\nfrom c import d\nimport e\nK = 1\nf(a)", "import a, b\nf(a)"),
        ("def g():\n return 1\n f(2)\nf(g())", "def g():\n    return 1\nf(g())"),
    ],
)
def test_constants_are_passed_on_to_where_they_are_asked_for(program: str, left: str) -> None:
    assert folded(program) == left


def test_of_classes_what_nobody_asks_for_goes_and_what_others_may_call_stays() -> None:
    program = """
class Base(Exception):
    def __init__(self, message, hint=None):
        self.message, self.hint = message, hint
class One(Base): pass
class Thing:
    def __init__(self, size, text):
        self.size, self.text, self.count = size, text, 0
    def close(self): f(self.text)
    def unasked(self): f(self.size)
    def grown(self):
        self.count += 1
        return self.size * self.count
f(Thing(3, x).grown(), Base('a'), One('a', 'b').hint)
"""

    left = folded(program)

    assert "unasked" not in left and "self.message" not in left
    assert "def close(self):\n        f(self.text)" in left
    assert "def __init__(self, text):\n        self.text = text\n        self.count = 0" in left
    assert "return 3 * self.count" in left
    assert "f(Thing(x).grown(), Base('a'), One('a', 'b').hint)" in left
