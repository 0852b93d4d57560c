"""From every state a command that the store itself names goes on, and no check says "all good" before it has.

Each case brings a store of real files into a state, says where that is reported, and does what is advised. Then an
update goes through, and all is good.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from historical_etl_tests.cli.conftest import CommandLine, command_line
from historical_etl_tests.field.series import days, walk

NAME, STORED, ALL = "ACME", 40, 60
RAW = ("FILES_ADJUSTMENT", "as traded")


@dataclass(frozen=True)
class Case:
    """A state, and the way out of it.

    Attributes:
        enter: brings a filled store into it.
        update: the exit code of an update in it, and what that says.
        status, verify, doctor: what these say; of the doctor the check and its next step.
        leave: does what was advised.
    """

    enter: Callable[["Shop"], None]
    update: tuple[int, str]
    status: str
    verify: str
    doctor: tuple[str, str]
    leave: Callable[["Shop"], None]


class Shop:
    """A file of prices, a store that is filled from it, and a command line."""

    def __init__(self, cli: CommandLine) -> None:
        self.cli = cli
        self.file = cli.folder / "prices.csv"
        self.closes = walk(ALL)
        self.adjusted = [close / 2 for close in self.closes]
        cli.set(SOURCE="files", FILES_PATH=str(self.file), FILES_ADJUSTMENT=RAW[1], START="2023-01-02")

    def write(self, count: int, *, alter: dict[int, float] | None = None, still: int = ALL, whole: int = ALL) -> None:
        """The file with so many sessions: some closes multiplied, one bar repeated from `still` on.

        From `whole` on `adj_close` is doubled.
        """
        lines = ["date,symbol,open,high,low,close,volume,adj_close"]
        for at, day in enumerate(days(count)):
            source = min(at, still)
            close = self.closes[source] * (alter or {}).get(at, 1.0)
            adj = self.adjusted[source] * (alter or {}).get(at, 1.0) * (2 if at >= whole else 1)
            lines.append(f"{day},{NAME},{close},{close},{close},{close},{1000 + source},{adj}")
        self.file.write_text("\n".join(lines) + "\n")

    def fill(self, alter: dict[int, float] | None = None) -> int:
        self.write(STORED, alter=alter)
        return self.cli("backfill", "--from", "2023", "--to", "2023").code

    def accept(self) -> None:
        answer = self.cli("holds", "accept", NAME, "--reason", "it is so", "--by", "anna")
        assert answer.code in (0, 3), answer.err

    def do(self, *command: str) -> None:
        answer = self.cli(*command)
        assert answer.code == 0, answer.err


@pytest.fixture
def shop(tmp_path, capsys, monkeypatch) -> Shop:
    return Shop(command_line(tmp_path, capsys, monkeypatch))


PENCE = dict.fromkeys(range(STORED, ALL), 100.0)
HALF = dict.fromkeys(range(10, 25), 100.0)


def first_history_is_held(shop: Shop) -> None:
    assert shop.fill(alter=HALF) == 3


def level_jumps(shop: Shop) -> None:
    shop.fill()
    shop.write(STORED + 1, alter=PENCE)


def feed_freezes(shop: Shop) -> None:
    shop.fill()
    shop.write(STORED + 6, still=STORED - 1)
    shop.cli("update")


def feed_moves_again(shop: Shop) -> None:
    shop.write(STORED + 7)


def source_changes_its_basis(shop: Shop) -> None:
    shop.fill()
    shop.cli.set(FILES_ADJUSTMENT="split adjusted")


def source_has_another_basis_for_newcomers(shop: Shop) -> None:
    shop.fill()
    shop.cli.set(FILES_ADJUSTMENT="split adjusted")
    shop.file.write_text(shop.file.read_text() + shop.file.read_text().partition("\n")[2].replace(NAME, "BETA"))
    assert shop.cli("backfill", "--symbols", "BETA", "--from", "2023", "--to", "2023").code == 0


def exchange_is_another(shop: Shop) -> None:
    shop.fill()
    shop.cli.set(EXCHANGE="XLON")


def ledger_of_holds_is_damaged(shop: Shop) -> None:
    level_jumps(shop)
    assert shop.cli("update").code == 3
    (path,) = (path for path in shop.cli.data.rglob("open_holds-*.parquet") if path.is_file())
    path.chmod(0o644)
    path.write_bytes(b"damaged")


def repair_and_accept(shop: Shop) -> None:
    shop.cli("repair")
    assert shop.cli("update").code == 3
    shop.accept()


def all_rows_are_wrong(shop: Shop) -> None:
    shop.fill()
    shop.write(STORED + 1, alter=dict.fromkeys(range(ALL), -1.0))


def adj_close_splits_what_did_not_fall(shop: Shop) -> None:
    shop.fill()
    shop.write(STORED + 1, whole=30)


CASES = {
    "a first history is held": Case(
        first_history_is_held,
        (3, "holds accept ACME"),
        "no bar is stored",
        "`historical-etl holds accept ACME",
        ("store", "`historical-etl holds accept ACME"),
        Shop.accept,
    ),
    "a level jumps": Case(
        level_jumps,
        (3, "holds accept ACME"),
        "ACME level_jump",
        "`historical-etl holds accept ACME",
        ("store", "`historical-etl holds accept ACME"),
        Shop.accept,
    ),
    "a feed stands still": Case(
        feed_freezes,
        (3, "holds accept ACME"),
        "ACME stale",
        "`historical-etl holds accept ACME",
        ("store", "`historical-etl holds accept ACME"),
        feed_moves_again,
    ),
    "the source gives another basis": Case(
        source_changes_its_basis,
        (1, "historical-etl backfill --rebuild --from 2023"),
        "historical-etl backfill --rebuild --from 2023",
        "historical-etl backfill --rebuild --from 2023",
        ("store", "historical-etl backfill --rebuild --from 2023"),
        lambda shop: shop.do("backfill", "--rebuild", "--from", "2023"),
    ),
    "one symbol is on another basis": Case(
        source_has_another_basis_for_newcomers,
        (3, "historical-etl backfill --rebuild --from 2023"),
        "ACME other_basis",
        "historical-etl backfill --rebuild --symbols ACME --from 2023",
        ("store", "historical-etl backfill --rebuild --symbols ACME --from 2023"),
        lambda shop: shop.do("backfill", "--rebuild", "--symbols", "ACME", "--from", "2023"),
    ),
    "the exchange is another": Case(
        exchange_is_another,
        (2, "set it to XNYS"),
        "set it to XNYS",
        "set it to XNYS",
        ("calendar", "set it to XNYS"),
        lambda shop: shop.cli.set(EXCHANGE="XNYS"),
    ),
    "the ledger of holds is damaged": Case(
        ledger_of_holds_is_damaged,
        (3, "holds accept ACME"),
        "historical-etl repair",
        "historical-etl repair",
        ("store", "historical-etl repair"),
        repair_and_accept,
    ),
    "adj_close contradicts the price": Case(
        adj_close_splits_what_did_not_fall,
        (3, "holds accept ACME"),
        "see `historical-etl holds`",
        "`historical-etl holds accept ACME",
        ("store", "`historical-etl holds accept ACME"),
        Shop.accept,
    ),
    "all rows are wrong": Case(
        all_rows_are_wrong,
        (1, "ask again once the source is right"),
        "ask again once the source is right",
        "ask again once the source is right",
        ("store", "ask again once the source is right"),
        lambda shop: shop.write(STORED + 1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_advised_in_a_state_leads_out_of_it(shop, name):
    case, cli = CASES[name], shop.cli
    case.enter(shop)
    code, says = case.update
    if "damaged" not in name:
        answer = cli("update")
        assert (answer.code, says in answer.out + answer.err) == (code, True), answer.err
    status = cli("status")
    assert case.status in status.out + status.err
    verify = cli("verify")
    assert "All good" not in verify.out
    assert case.verify in verify.out
    check, todo = case.doctor
    found = {found["check"]: found for found in cli("doctor", "--offline", "--json").document["checks"]}[check]
    assert found["verdict"] != "ok"
    assert todo in found["next"]
    case.leave(shop)
    last = cli("update")
    assert last.code == 0, last.err
    assert "All good" in cli("verify").out
    after = {found["check"]: found for found in cli("doctor", "--offline", "--json").document["checks"]}[check]
    assert after["verdict"] == "ok", after
