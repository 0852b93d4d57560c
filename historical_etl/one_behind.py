"""Do the slow part of some work in a thread, one piece behind whoever hands the pieces out."""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["one_behind"]

_Piece = TypeVar("_Piece")


@contextmanager
def one_behind(work: Callable[[_Piece], object]) -> Generator[Callable[[_Piece], None]]:
    """A function that takes a piece, waits until the piece before it is done, and leaves this one to a thread.

    When the block ends, however it ends, no piece is worked on any more.

    Raises: what `work` raises, when the next piece is handed out, or at the end of the block.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="behind") as pool:
        last: list[Future[object]] = []

        def hand_out(piece: _Piece) -> None:
            while last:
                last.pop().result()
            last.append(pool.submit(work, piece))

        yield hand_out
        for pending in last:
            pending.result()
