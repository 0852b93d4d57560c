"""Mutations: one small change each to the code of a module, which some test should notice.

A comparison gets its boundary moved and is turned round, `and` and `or` are swapped and lose each operand, conditions
are negated, numbers grow by one, truths turn, and a statement, a returned value, a `raise`, a decorator or a context
manager is taken away. Annotations, texts, `__all__`, imports and assertions are left alone: the last tell the type
checker something.
"""

import ast
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, cast

__all__ = ["Edit", "edits_of", "mutated"]

#: Not code that a test could notice, or code of which no part is looked at alone.
_LEFT_ALONE: Final = ("annotation", "returns", "type_comment")
_COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_New = ast.expr | ast.stmt | list[ast.stmt]


class Edit(NamedTuple):
    """A change at a line, in a statement from `line` to `last`; in words, and what makes it in the parsed module."""

    line: int
    last: int
    at: int
    what: str
    make: Callable[[], None]


def edits_of(source: str) -> list[Edit]:
    """All changes to a module, always in the same order."""
    return list(_of(ast.parse(source), (0, 0)))


def mutated(source: str, number: int) -> tuple[str, Edit]:
    """The source after the change of this number, and that change."""
    tree = ast.parse(source)
    edit = list(_of(tree, (0, 0)))[number]
    edit.make()
    return ast.unparse(ast.fix_missing_locations(tree)), edit


def _of(owner: ast.AST, statement: tuple[int, int]) -> Iterator[Edit]:
    """The changes to what a node consists of, which is in the statement of these lines."""
    for name, value in ast.iter_fields(owner):
        if name in _LEFT_ALONE:
            continue
        members = cast("list[object]", value) if isinstance(value, list) else [value]
        for number, node in enumerate(members):
            if not isinstance(node, ast.AST) or _is_left_alone(node):
                continue
            here = _lines(node) if isinstance(node, ast.stmt) else statement
            index = number if isinstance(value, list) else None
            for what, new in _instead_of(node, name):
                make = _placed(owner, name, index, new)
                yield Edit(*here, getattr(node, "lineno", here[0]), f"{what}: {_short(node)}", make)
            yield from _of(node, here)


def _lines(node: ast.stmt) -> tuple[int, int]:
    """The lines of a statement; of one that holds others, those before the first."""
    body: list[ast.stmt] = getattr(node, "body", [])
    last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
    return node.lineno, max(node.lineno, last)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Assert):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def _instead_of(node: ast.AST, field: str) -> Iterator[tuple[str, _New]]:
    if field == "decorator_list":
        yield "decorator removed", []
    elif field in ("test", "ifs") and isinstance(node, ast.expr) and not _is_turned_by_itself(node):
        yield "condition negated", ast.UnaryOp(ast.Not(), node)
    if isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.expr):
        yield from _expressions(node)


def _statements(node: ast.stmt) -> Iterator[tuple[str, _New]]:
    match node:
        case ast.Expr() | ast.Raise() | ast.AugAssign() | ast.Delete():
            yield "statement removed", ast.Pass()
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) not in ("None", "False", "True"):
            yield "None returned", ast.Return(ast.Constant(None))
        case ast.Continue():
            yield "continue to break", ast.Break()
            yield "statement removed", ast.Pass()
        case ast.Break():
            yield "statement removed", ast.Pass()
        case ast.With():
            yield from _managers(node)
        case ast.Try():
            yield from _handlers(node)
        case _:
            return


def _managers(node: ast.With) -> Iterator[tuple[str, _New]]:
    for item in node.items:
        if item.optional_vars is None:
            rest = [other for other in node.items if other is not item]
            what = f"context manager {_short(item.context_expr)} removed"
            yield what, ast.With(rest, node.body) if rest else node.body


def _handlers(node: ast.Try) -> Iterator[tuple[str, _New]]:
    for handler in node.handlers:
        if len(handler.body) > 1 or not isinstance(handler.body[0], ast.Raise):
            raising = ast.ExceptHandler(handler.type, handler.name, [ast.Raise()])
            handlers = [raising if other is handler else other for other in node.handlers]
            what = f"handler of {ast.unparse(handler.type) if handler.type else 'all'} raises"
            yield what, ast.Try(node.body, handlers, node.orelse, node.finalbody)


def _expressions(node: ast.expr) -> Iterator[tuple[str, _New]]:
    match node:
        case ast.Compare():
            for at, operator in enumerate(node.ops):
                for other in _COMPARISONS[type(operator)]:
                    ops = [other() if i == at else op for i, op in enumerate(node.ops)]
                    yield (
                        f"{type(operator).__name__} to {other.__name__}",
                        ast.Compare(node.left, ops, node.comparators),
                    )
        case ast.BoolOp():
            yield from _operands(node)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield f"{type(node.op).__name__} removed", node.operand
        case ast.BinOp() if type(node.op) in _ARITHMETIC and not (_is_text(node.left) or _is_text(node.right)):
            other = _ARITHMETIC[type(node.op)]
            if not isinstance(node.op, ast.Div):  # of paths, nearly always
                yield f"{type(node.op).__name__} to {other.__name__}", ast.BinOp(node.left, other(), node.right)
        case ast.Constant(value=bool() as truth):
            yield f"to {not truth}", ast.Constant(not truth)
        case ast.Constant(value=int() | float() as number):
            yield "one more", ast.Constant(number + 1)
        case _:
            return


def _operands(node: ast.BoolOp) -> Iterator[tuple[str, _New]]:
    swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield f"to {type(swapped).__name__}", ast.BoolOp(swapped, node.values)
    for value in node.values:
        rest = [other for other in node.values if other is not value]
        what = f"operand {_short(value)} removed"
        yield what, rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _is_turned_by_itself(node: ast.expr) -> bool:
    """Whether one of the changes to the node is its negation already."""
    single = isinstance(node, ast.Compare) and len(node.ops) == 1
    return single or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)) or isinstance(node, ast.Constant)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _placed(owner: ast.AST, field: str, index: int | None, new: _New) -> Callable[[], None]:
    def make() -> None:
        if index is None:
            setattr(owner, field, new)
        else:
            getattr(owner, field)[index : index + 1] = new if isinstance(new, list) else [new]

    return make


def _short(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:80]
