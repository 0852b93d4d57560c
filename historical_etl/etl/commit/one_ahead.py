"""Work on one thing while the next is made."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["one_ahead"]

_Item = TypeVar("_Item")


@contextmanager
def one_ahead(items: Iterator[_Item]) -> Generator[Iterator[_Item]]:
    """The same items; each is made in a thread while the one before is worked on. None is in the making afterwards.

    Raises: what the making of an item raises, where that item would have been.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as pool:

        def given() -> Iterator[_Item]:
            making = pool.submit(next, items, None)
            while (item := making.result()) is not None:
                making = pool.submit(next, items, None)
                yield item

        yield given()
