"""`adopt`: files of prices that somebody has go into the store, and every row of them is accounted for."""

from collections.abc import Mapping

from rich.text import Text

from historical_etl.cli.run_summary import RunSummary, report_skipped_files
from historical_etl.cli.runs import year_by_year
from historical_etl.cli.terminal import PROGRAM, Terminal, ranges, some
from historical_etl.errors import ConfigurationError, DataQualityError, SchemaDriftError
from historical_etl.etl import adopt as adoption
from historical_etl.etl.adopt import Adoption, RowCounts
from historical_etl.etl.runs import RUNS_LOG
from historical_etl.settings import PREFIX
from historical_etl.symbols import normalize_symbols

__all__ = ["adopt"]

_INCOMPLETE = 3
_WORDS = {
    "taken": "taken",
    "repeated": "the same again",
    "refused": "refused",
    "held": "held",
    "not_asked": "of symbols that were not asked for",
    "not_closed": "of sessions that have not closed",
    "not_session": "at the edge of a year, on days that were no session",
    "before_calendar": "before the calendar of the exchange begins: kept in rejected_rows",
    "after_calendar": "after the calendar of the exchange ends",
}
_HOW = "how files are written is set by --layout, --columns, --separator, and the settings HISTORICAL_ETL_FILES_…"
_BASIS = (
    "Prices on two bases make no history: state the right basis with --adjustment if it is the same, else adopt the "
    "files into another data folder"
)


def adopt(terminal: Terminal, given: Mapping[str, str], symbols: str | None, *, rehearse: bool) -> int:
    """Take files into the store; see the command's help."""
    terminal.shown_elsewhere.add(RUNS_LOG)
    settings = terminal.settings
    files = settings.files.model_dump(exclude_unset=True) | dict(given)
    wanted = normalize_symbols([part for part in symbols.split(",") if part.strip()]) if symbols is not None else None
    try:
        with terminal.busy("Reading the files"):
            etl = adoption.opened_for(settings.changed({"files": files}), writer_id=f"{PROGRAM} adopt")
            before = etl.manifest()
        with year_by_year(terminal, []) as progress:
            done = adoption.adopt(etl, wanted, rehearse=rehearse, progress=progress)
    except (SchemaDriftError, ConfigurationError) as error:
        if error.where == f"{PREFIX}FILES_PATH":
            error.where, error.todo = "PATH", "name a folder, a file, or a glob in quotes: historical-etl adopt PATH"
            raise
        error.add_note(_HOW)
        raise
    except DataQualityError as error:
        if "price basis" in error.what:
            error.add_note(_BASIS)
        raise
    summary = RunSummary(etl, before, done.result) if done.result else None
    code = (
        (0 if done.complete else _INCOMPLETE)
        if summary is None
        else summary.code or (0 if done.complete else _INCOMPLETE)
    )
    if terminal.as_json:
        terminal.json({**(summary.document() if summary else {}), "adopted": _document(done), "rehearsed": rehearse})
        return code
    _report(terminal, done, rehearse=rehearse)
    if summary is None:
        terminal.say("next: the same command without --dry-run")
    else:
        summary.report(terminal)
        summary.report_next_steps(
            terminal, f"{terminal.program} status, or {terminal.program} update from the source you choose"
        )
    return code


def _report(terminal: Terminal, done: Adoption, *, rehearse: bool) -> None:
    row_counts = done.row_counts
    terminal.out.print(Text(f"{row_counts.read:>12,}  row(s) in {done.files:,} file(s)"))
    for name, words in _WORDS.items():
        count = int(getattr(row_counts, name))
        if count or name == "taken":
            terminal.out.print(Text(f"{count:>12,}  {'would be ' if rehearse and name == 'taken' else ''}{words}"))
    for reason, count in sorted(row_counts.by_reason.items()) if rehearse else ():
        terminal.out.print(Text(f"{'':>12}  refused: {reason}: {count:,}"))
    for line in done.reading:
        terminal.say(line)
    if rehearse:
        report_skipped_files(terminal, done.set_aside)
    if done.years:
        terminal.out.print(
            Text(f"{len(done.symbols):,} symbol(s) ({some(done.symbols, 5)}), {ranges(list(done.years))}"),
            soft_wrap=True,
        )
    if done.year_files:
        terminal.say(f"{done.year_files:,} of the files are year files of a store: their ret is computed anew")


def _document(done: Adoption) -> dict[str, object]:
    return {
        "files": done.files,
        "year_files": done.year_files,
        **_rows(done.row_counts),
        "symbols": list(done.symbols),
        "years": list(done.years),
        "reading": list(done.reading),
        "set_aside": list(done.set_aside),
    }


def _rows(row_counts: RowCounts) -> dict[str, object]:
    counts: dict[str, object] = {"read": row_counts.read, "outside": row_counts.outside}
    return counts | {name: getattr(row_counts, name) for name in _WORDS} | {"by_reason": dict(row_counts.by_reason)}
