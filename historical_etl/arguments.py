"""Arguments of public methods: one of a wrong type is refused in our words, before anything is done with it.

What a method takes is what its annotations say. They are read when it is first called.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, partial, wraps
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import FunctionType, NoneType, UnionType
from typing import Any, Final, ParamSpec, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from historical_etl.errors import ConfigurationError

__all__ = ["is_no_moment", "is_table", "is_truth", "plain", "require_type", "typed_arguments"]

_Class = TypeVar("_Class", bound=type)
_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")
#: What counts as a type, beside its subclasses: integers of NumPy, paths of other libraries.
_ALSO: Final[dict[object, tuple[type, ...]]] = {int: (Integral,), float: (Real,), Path: (PathLike,)}
#: A string is an iterable of strings too, but nobody means it as a list, nor bytes as symbols.
_NEVER: Final[dict[object, tuple[type, ...]]] = {Sequence: (str, bytes), Iterable: (bytes,)}
#: How types are named to people.
_WORDS: Final[dict[object, str]] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "True or False",
    date: "a date",
    datetime: "a datetime",
    Path: "a path",
    Iterable: "a list",
    Sequence: "a list",
    Mapping: "a mapping",
    Callable: "a function",
    object: "anything",
    NoneType: "None",
}


def typed_arguments(kind: _Class) -> _Class:
    """Decorate a class: its constructor and public methods raise `ConfigurationError` for a wrong type."""
    for name, member in list(vars(kind).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, FunctionType):
            setattr(kind, name, _checked(member))
        elif isinstance(member, classmethod):
            setattr(kind, name, classmethod(_checked(cast("FunctionType", member.__func__))))
    return kind


def is_truth(value: object) -> bool:
    """Whether a value is True or False, or one of NumPy's, which is no bool by its class."""
    return isinstance(value, bool) or (_is_of_numpy(value) and type(value).__name__ in {"bool", "bool_"})


def is_no_moment(value: object) -> bool:
    """Whether a value is what pandas has for no date: a datetime by its class, and not equal to itself."""
    return isinstance(value, date) and value != value  # noqa: PLR0124 - that is the test


def is_table(value: object) -> bool:
    """Whether a value is a table, such as a frame of pandas or Polars: going through one gives its columns."""
    return not isinstance(value, str) and hasattr(value, "columns")


def plain(value: object) -> object:
    """A value with Python's own numbers, texts and dates for those of NumPy, in lists and mappings as well."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    scalar: Any = value
    if not _is_of_numpy(value) or getattr(value, "ndim", 1):
        return value
    if scalar.dtype.kind in "mM" and isinstance(scalar.item(), int):  # Python counts no nanoseconds
        return scalar.astype(f"{scalar.dtype.kind}8[us]").item()
    return scalar.item()


def _is_of_numpy(value: object) -> bool:
    return type(value).__module__ == "numpy"  # which is not imported to find that out


def require_type(value: object, annotation: object, *, name: str, where: str) -> None:
    """Refuse a value that is not of a type.

    Args:
        value: the argument.
        annotation: the type, or a union of types.
        name: of the argument.
        where: what it was given to.

    Raises:
        ConfigurationError: it is of another type.
    """
    if not _fits(value, annotation):
        raise ConfigurationError(
            f"{name} is of the type {type(value).__name__}", where=where, todo=f"give {_in_words(annotation)}"
        )


@dataclass(frozen=True)
class _Parameters:
    """What a function takes.

    Attributes:
        signature: binds arguments to its parameters.
        annotations: of those parameters that take one argument.
    """

    signature: inspect.Signature
    annotations: Mapping[str, object]

    def require(self, where: str, arguments: Iterable[object], named: Mapping[str, object]) -> None:
        try:
            given = self.signature.bind(*arguments, **named).arguments
        except TypeError:
            return  # Python itself says best which argument is missing or too much
        for name, value in given.items():
            if name in self.annotations:
                require_type(value, self.annotations[name], name=name, where=where)


def _checked(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    parameters = cache(partial(_parameters, function))
    where = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        parameters().require(where, arguments, named)
        return function(*arguments, **named)

    return checked


def _parameters(function: Callable[..., object]) -> _Parameters:
    signature = inspect.signature(function)
    takes_one = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    }
    hints: dict[str, object] = get_type_hints(function)
    return _Parameters(signature, {name: hint for name, hint in hints.items() if name in takes_one})


def _fits(value: object, annotation: object) -> bool:
    options = _options(annotation)
    return not all(map(_is_checked, options)) or any(_is_of(value, option) for option in options)


def _options(annotation: object) -> tuple[object, ...]:
    return get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)


def _is_checked(option: object) -> bool:
    """Whether it is a class. A protocol or a literal is left to whoever takes the argument, and Any to nobody."""
    kind: object = get_origin(option) or option
    return isinstance(kind, type) and kind is not object and not getattr(kind, "_is_protocol", False)


def _is_of(value: object, option: object) -> bool:
    kind: Any = get_origin(option) or option
    if is_truth(value):
        return kind is bool
    if is_no_moment(value):
        return False
    if isinstance(value, _NEVER.get(kind, ())) or not isinstance(value, (kind, *_ALSO.get(kind, ()))):
        return False
    # A sequence can be looked through without using it up.
    return kind is not Sequence or all(_fits(item, get_args(option)[0]) for item in cast("Sequence[object]", value))


def _in_words(annotation: object) -> str:
    *most, last = dict.fromkeys(map(_named, _options(annotation)))
    return f"{', '.join(most)} or {last}" if most else last


def _named(option: object) -> str:
    kind: Any = get_origin(option) or option
    items = f" with {_in_words(get_args(option)[0])} as each item" if kind is Sequence else ""
    return _WORDS.get(kind, f"a {kind.__name__}") + items
