"""What a stranger would check first when a store does not fill: values, each with a verdict and the next step.

Every check is made whatever became of the others, and none of them changes the store. The volume is tried by writing
a file that is taken away again, the source by one request; what the machine is made of is in `doctor_machine`.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar, cast

from pydantic import SecretStr

from historical_etl.clock import Clock, system_clock
from historical_etl.errors import HistoricalETLError, NotPublishedError, ProviderError, RateLimitedError
from historical_etl.etl.health import calendar_check, machine_checks
from historical_etl.etl.health.check import Check, CheckStatus, problem
from historical_etl.masking import looks_secret, masked
from historical_etl.models import Outcome
from historical_etl.regular_files import read_regular
from historical_etl.sessions import calendar_of
from historical_etl.settings import Settings, given_settings, secrets_of, unknown_variables
from historical_etl.sources.base import FetchRequest, FetchResult, SourceInfo
from historical_etl.sources.fetcher import UnifiedDataFetcher
from historical_etl.sources.files import FilesSource
from historical_etl.sources.replay import clock_for
from historical_etl.sources.vendors.proxies import proxy_secrets
from historical_etl.sources.vendors.vendor_source import VendorSource
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.progress import parse_progress
from historical_etl.store.volume import DiskProbe, system_disk_usage
from historical_etl.vendor_settings import VENDOR_GROUPS, VendorSettings, variable_of

__all__ = ["Check", "CheckStatus", "Examination", "examine", "refused_settings"]

_T = TypeVar("_T")
#: For one request, and for all that the one question to a source may come to.
REQUEST_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 30.0
#: Where nothing says which symbol to ask for.
_ANY_SYMBOL: Final = "AAPL"
_LOOK: Final = "look at the network, the proxy and the vendor's own status page, then run it again"
_NEARLY_USED: Final = 0.9
_FILES: Final = 20
_DAY_SECONDS: Final = 86400
_PERIODS: Final = {1: "second", 60: "minute", 3600: "hour", _DAY_SECONDS: "day"}


@dataclass(frozen=True)
class Examination:
    """All checks, in the order in which to read them."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """True unless something is a problem; warnings are none."""
        return all(check.verdict is not CheckStatus.PROBLEM for check in self.checks)

    def check(self, name: str) -> Check:
        """The check of this name."""
        return next(check for check in self.checks if check.name == name)


def examine(
    settings: Settings,
    *,
    offline: bool = False,
    clock: Clock = system_clock,
    named: Mapping[str, str] | None = None,
    catalog_version: Callable[[], int] | None = None,
    mounts: Path = Path("/proc/mounts"),
    disk_usage: DiskProbe = system_disk_usage,
) -> Examination:
    """Look at everything that filling and reading the store depends on. Raises nothing of its own.

    Args:
        settings: of the store and its source.
        offline: ask nobody on the network.
        clock: the time.
        named: settings that stand on the command line, by variable, with the name of their option.
        catalog_version: the version that the catalog file itself shows; see `verify_store`.
        mounts: where the system lists its mounts.
        disk_usage: asks how full a volume is.
    """
    doctor = _Doctor(settings, clock=clock, offline=offline, named=named or {})
    layout = Layout(settings.data_dir)
    manager = ManifestManager(layout, clock=clock, disk_usage=disk_usage)
    looks: dict[str, Callable[[], Iterator[Check]]] = {
        "settings": doctor.settings_given,
        "source": doctor.source,
        "keys": doctor.keys,
        "vendor": doctor.vendor,
        "plan": doctor.plan,
        "limits": doctor.limits,
        "clock": lambda: doctor.clock(manager.newest_stamp()),
        "time zone": lambda: machine_checks.time_zone(settings, clock),
        "calendar": lambda: calendar_check.calendar(settings, manager, clock),
        "disk": lambda: machine_checks.disk(manager),
        "volume": lambda: machine_checks.volume(layout, mounts),
        "versions": lambda: machine_checks.versions(settings),
        "written by": lambda: machine_checks.written_by(manager),
        "store": lambda: machine_checks.store(
            manager, settings, lambda: doctor.available_through, doctor.source_info, catalog_version
        ),
    }
    checks: list[Check] = []
    secrets = _secrets(settings)
    for name, look in looks.items():
        try:
            checks += look()
        except HistoricalETLError as error:
            checks.append(problem(name, error))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one thing, the others are looked at
            what = masked(f"It cannot be checked: unexpected {type(error).__name__}: {error}", secrets)[:500]
            checks.append(Check(name, CheckStatus.PROBLEM, what, "report it, with the output of --verbose"))
    doctor.close()
    return Examination(tuple(_without(secrets, check) for check in checks))


def refused_settings(error: HistoricalETLError) -> Examination:
    """What is left to say where the settings themselves are refused."""
    rest = Check("source", CheckStatus.WARNING, "Nothing else was checked, since it needs the settings")
    return Examination((problem("settings", error), rest, *machine_checks.versions(None)))


class _Doctor:
    """The checks of the settings and of the source, which build on one another."""

    def __init__(self, settings: Settings, *, clock: Clock, offline: bool, named: Mapping[str, str]) -> None:
        self._settings = settings
        self._clock = clock
        self._offline = offline
        self._named = named
        self._name = settings.source.strip().lower()
        self._fetcher: UnifiedDataFetcher | None = None
        self._hangs = False
        self._adjustment = ""  # of the source as it is set, where another one is asked

    def close(self) -> None:
        """Close the source, unless it still works."""
        if self._fetcher and not self._hangs:
            self._fetcher.close()

    @property
    def available_through(self) -> date:
        """The last session that has closed, had time to settle, and that the source covers if it says so."""
        settle = timedelta(minutes=self._settings.settle_minutes)
        closed = calendar_of(self._settings).last_closed(self._source_clock()(), settle)
        coverage = self._fetcher.info.coverage if self._fetcher else None
        return min(closed, coverage.last) if coverage and coverage.last else closed

    @property
    def source_info(self) -> SourceInfo | None:
        """What the source says of itself; None if it cannot be made."""
        info = self._fetcher.info if self._fetcher else None
        return replace(info, adjustment=self._adjustment or info.adjustment) if info else None

    def settings_given(self) -> Iterator[Check]:
        """Which settings are set, and where; secrets are not shown."""
        given = {setting.variable: setting for setting in given_settings(self._settings)}
        shown = {name: f"{setting.value} ({setting.origin})" for name, setting in given.items()}
        shown |= {name: f"{self._settings.data_dir} ({option})" for name, option in self._named.items()}
        unknown = [f"{name} (did you mean {near}?)" if near else name for name, near in unknown_variables().items()]
        texts = [f"{name}={value}" for name, value in shown.items()]
        what = "; ".join(texts) if texts else "none is set: all have their defaults"
        if unknown:
            what = f"{what}. Ignored, since they are no settings: {', '.join(unknown)}"
        verdict = CheckStatus.WARNING if unknown else CheckStatus.OK
        yield Check("settings", verdict, what, "correct or unset these variables" if unknown else "", {"given": shown})

    def source(self) -> Iterator[Check]:
        """Whether the configured source can be made."""
        settings = self._settings
        if self._name in VENDOR_GROUPS:
            group = cast("VendorSettings", getattr(settings, self._name))
            # One try, soon over, and the bar alone: whoever waits here wants to know, not to have.
            brief = {
                "timeout_seconds": min(REQUEST_SECONDS, group.timeout_seconds),
                "attempts": 1,
                "max_wait_seconds": min(REQUEST_SECONDS, group.max_wait_seconds),
            }
            brief |= {"actions": False} if "actions" in type(group).model_fields else {}
            whole = UnifiedDataFetcher(settings, clock=self._source_clock())
            self._adjustment = whole.info.adjustment
            whole.close()
            settings = settings.model_copy(update={self._name: group.model_copy(update=brief)})
        self._fetcher = UnifiedDataFetcher(settings, clock=self._source_clock())
        info = replace(self._fetcher.info, adjustment=self._adjustment or self._fetcher.info.adjustment)
        facts = {"name": info.name, "version": info.version, "adjustment": info.adjustment}
        lenient = "" if self._settings.is_production else f", environment {self._settings.environment}"
        yield Check("source", CheckStatus.OK, f"{info.name} ({info.version}){lenient}: {info.adjustment}", facts=facts)
        if isinstance(self._fetcher.source, FilesSource):
            yield _files(self._fetcher.source)

    def keys(self) -> Iterator[Check]:
        """Whether the keys of the source are there. They are not shown."""
        if self._name not in VENDOR_GROUPS:
            name = "the source" if looks_secret(self._name) else self._name
            yield Check("keys", CheckStatus.OK, f"{name} needs none that is known here")
            return
        group, fields = getattr(self._settings, self._name), VENDOR_GROUPS[self._name].model_fields
        found = {variable_of(self._name, name, field): getattr(group, name) for name, field in fields.items()}
        held = {
            name: isinstance(value, SecretStr) and bool(value.get_secret_value().strip())
            for name, value in found.items()
            if name in group.variables
        }
        missing = [name for name, is_set in held.items() if not is_set]
        what = ", ".join(f"{name} {'set' if is_set else 'not set'}" for name, is_set in held.items())
        yield Check(
            "keys",
            CheckStatus.PROBLEM if missing else CheckStatus.OK,
            what or f"{self._name} needs none",
            f"set {' and '.join(missing)} in the environment or in .env" if missing else "",
            {"set": held},
        )

    def vendor(self) -> Iterator[Check]:
        """Whether the source answers: one symbol, one session, soon over."""
        if self._offline:
            yield Check("vendor", CheckStatus.OK, "not asked, as --offline says")
            return
        fetcher = self._fetcher
        if fetcher is None:
            yield Check("vendor", CheckStatus.WARNING, "not asked, since the source cannot be used")
            return
        day, began = self.available_through, time.monotonic()
        symbol = next(iter(self._settings.symbols or ()), None) or self._stored_symbol()

        def ask() -> tuple[str, FetchResult]:
            name = symbol or next(iter(fetcher.members(day, day)), _ANY_SYMBOL)
            return name, fetcher.fetch(FetchRequest((name,), day, day))

        try:
            answer = _within(ANSWER_SECONDS, ask)
        except RateLimitedError as error:
            yield Check("vendor", CheckStatus.WARNING, error.what, error.todo)
            return
        except NotPublishedError as error:
            yield Check("vendor", CheckStatus.OK, f"{fetcher.info.name} answered; {day} will come later: {error.what}")
            return
        except ProviderError as error:
            yield Check("vendor", CheckStatus.PROBLEM, error.what, _LOOK if error.retryable else error.todo or _LOOK)
            return
        if answer is None:
            self._hangs = True
            what = f"{fetcher.info.name} has not answered within {ANSWER_SECONDS:g} s"
            yield Check("vendor", CheckStatus.PROBLEM, what, _LOOK)
            return
        yield _answered(fetcher.info.name, answer, day, time.monotonic() - began)

    def plan(self) -> Iterator[Check]:
        """What the account is found out not to be given."""
        info = self.source_info
        if info is not None and info.plan:
            first = info.coverage.first if info.coverage else None
            yield Check("plan", CheckStatus.OK, info.plan, facts={"plan": info.plan, "first": first})

    def limits(self) -> Iterator[Check]:
        """How much of the vendor's limits is used, by all processes of this user."""
        source = self._fetcher.source if self._fetcher else None
        if not isinstance(source, VendorSource):
            yield Check(
                "limits", CheckStatus.OK, "none is known" if source else "not known, since the source cannot be used"
            )
            return
        found = source.allowances()
        now = self._clock()
        waits = max((allowance.wait for allowance in found), default=0.0)
        nearly = any(allowance.used >= _NEARLY_USED * allowance.limit for allowance in found)
        texts = [f"{a.used:,} of {a.limit:,} used in the last {_PERIODS[a.period_seconds]}" for a in found]
        following = now + timedelta(seconds=waits)
        texts.append(
            f"the next request is possible {f'after {following:%Y-%m-%d %H:%M:%S} UTC' if waits else 'at once'}"
        )
        budget = next((a for a in found if a.period_seconds == _DAY_SECONDS), None)
        facts: dict[str, object] = {
            "limits": [vars(allowance) for allowance in found],
            "left_today": budget.limit - budget.used if budget else None,
            "next_request": following.isoformat(),
        }
        todo = (
            f"go on later; where your plan allows more, set HISTORICAL_ETL_{self._name.upper()}_RATE and _DAILY_BUDGET"
        )
        verdict = CheckStatus.WARNING if waits or nearly else CheckStatus.OK
        yield Check("limits", verdict, "; ".join(texts), todo if verdict is CheckStatus.WARNING else "", facts)

    def clock(self, newest: datetime | None) -> Iterator[Check]:
        """Whether this machine's clock is right, by the vendor's and by the latest stamp of a version."""
        source = self._fetcher.source if self._fetcher else None
        offset = source.clock_offset if isinstance(source, VendorSource) else None
        yield machine_checks.clock(self._clock(), offset, self._name, newest)

    def _source_clock(self) -> Clock:
        """The clock that the source goes by: another one where the sample is replayed."""
        if self._settings.replay_from is None or self._clock is not system_clock:
            return self._clock
        return clock_for(self._settings, self._stored_through)

    def _stored_through(self) -> date | None:
        manifest = ManifestManager(Layout(self._settings.data_dir)).load_manifest()
        return manifest.end_date if manifest else None

    def _stored_symbol(self) -> str | None:
        """A symbol that is stored and trades; None if that is not known."""
        with suppress(OSError, ValueError):
            content = read_regular(Layout(self._settings.data_dir).progress_file())
            cursors = parse_progress(content).symbol_last_dates
            return max(sorted(cursors), key=lambda symbol: cursors[symbol], default=None)
        return None


def _files(source: FilesSource) -> Check:
    """How files are understood, and what of them is skipped."""
    lines = (*source.reading, *source.notes)
    facts = {"reading": list(source.reading), "notes": list(source.notes), "set_aside": list(source.set_aside)}
    if source.set_aside:
        more = "; …" if len(source.set_aside) > _FILES else ""
        some = "; ".join(source.set_aside[:_FILES])
        what = f"{len(source.set_aside):,} are skipped: {some}{more}. {'; '.join(lines)}"
        return Check("files", CheckStatus.WARNING, what, "correct them, or take them out of the folder", facts)
    verdict = CheckStatus.WARNING if source.unreadable.height else CheckStatus.OK
    return Check("files", verdict, f"{len(source.paths):,} are read: {'; '.join(lines)}", facts=facts)


def _answered(name: str, answer: tuple[str, FetchResult], day: date, seconds: float) -> Check:
    symbol, result = answer
    outcome = result.outcomes.get(symbol, Outcome.OK if result.frame.height else Outcome.EMPTY)
    facts: dict[str, object] = {
        "symbol": symbol,
        "session": day,
        "outcome": outcome.value,
        "seconds": round(seconds, 3),
    }
    began = f"{name} answered in {seconds:.1f} s"
    if outcome is Outcome.OK:
        return Check("vendor", CheckStatus.OK, f"{began}, with the bar of {symbol} on {day}", facts=facts)
    if outcome is Outcome.EMPTY:
        return Check("vendor", CheckStatus.OK, f"{began}; it has no bar of {symbol} on {day}", facts=facts)
    why = result.details.get(symbol, outcome.value)
    if outcome is Outcome.NOT_FOUND:
        todo = "name a symbol that it has in HISTORICAL_ETL_SYMBOLS, to be sure"
        return Check("vendor", CheckStatus.WARNING, f"{began}; it does not know {symbol}: {why}", todo, facts)
    verdict = CheckStatus.WARNING if outcome is Outcome.RATE_LIMITED else CheckStatus.PROBLEM
    return Check("vendor", verdict, f"{symbol} did not come from {name}: {why}", "run it again later", facts)


def _within(seconds: float, work: Callable[[], _T]) -> _T | None:
    """What `work` returns or raises; None if it takes longer. Then it is left behind, and ends with this process."""
    done: list[Callable[[], _T]] = []

    def run() -> None:
        try:
            found = work()
            done.append(lambda: found)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            done.append(_raising(error))

    thread = threading.Thread(target=run, name="doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    return done[0]() if done else None


def _raising(error: BaseException) -> Callable[[], _T]:
    def fail() -> _T:
        raise error

    return fail


def _secrets(settings: Settings) -> list[str]:
    return [*secrets_of(settings), *proxy_secrets()]


def _without(secrets: list[str], check: Check) -> Check:
    """A check whose words hold no key, whoever wrote them."""

    def clean(text: str) -> str:
        return masked(text, secrets)

    facts = {name: _cleaned(value, clean) for name, value in check.facts.items()}
    return replace(check, what=clean(check.what), todo=clean(check.todo), facts=facts)


def _cleaned(value: object, clean: Callable[[str], str]) -> object:
    if isinstance(value, dict):
        return {name: _cleaned(inner, clean) for name, inner in cast("dict[str, object]", value).items()}
    return clean(value) if isinstance(value, str) else value
