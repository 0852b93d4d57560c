"""Commit: merge → gate → objects → ledgers → manifest → daily/ → progress, under the writer lock; and publish.

What other rooms may use is listed in `__init__.pyi`, and loaded on first use. All else is private to this one.
"""

from typing import TYPE_CHECKING, cast

import lazy_loader

if TYPE_CHECKING:
    from collections.abc import Callable

__getattr__, __dir__, __all__ = cast(
    "tuple[Callable[[str], object], Callable[[], list[str]], list[str]]", lazy_loader.attach_stub(__name__, __file__)
)
