"""Work in a thread, one piece behind: in order, its errors are raised, and none goes on after the block."""

import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from historical_etl.one_behind import one_behind


def test_the_next_piece_is_made_while_the_last_one_is_worked_on() -> None:
    made, done = threading.Event(), list[int]()

    def work(piece: int) -> None:
        assert piece or made.wait(10)
        done.append(piece)

    with one_behind(work) as hand_out:
        hand_out(0)
        made.set()
        hand_out(1)
        assert done[0] == 0
    assert done == [0, 1]


def test_what_goes_wrong_is_raised_with_the_next_piece() -> None:
    done = list[int]()

    def work(piece: int) -> None:
        if piece == 1:
            raise ValueError("one is refused")
        done.append(piece)

    with pytest.raises(ValueError, match="one is refused"):
        _hand_out(work, range(10))
    assert done == [0]


def test_what_goes_wrong_with_the_last_piece_is_raised_at_the_end() -> None:
    def work(piece: int) -> None:
        raise ValueError(f"{piece} is refused")

    with pytest.raises(ValueError, match="0 is refused"):
        _hand_out(work, [0])


def test_nothing_goes_on_after_the_block() -> None:
    begun, left, done = threading.Event(), threading.Event(), list[bool]()

    def pieces() -> Iterator[int]:
        yield 0
        assert begun.wait(10)
        raise KeyError

    def work(_: int) -> None:
        begun.set()
        left.wait(0.2)
        done.append(left.is_set())

    with pytest.raises(KeyError):
        _hand_out(work, pieces())
    left.set()
    assert done == [False]


def _hand_out(work: Callable[[int], None], pieces: Iterable[int]) -> None:
    with one_behind(work) as hand_out:
        for piece in pieces:
            hand_out(piece)
