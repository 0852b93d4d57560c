"""What Dagster itself does, where a decision of ours rests on it. If one of these fails, Dagster changed, not we."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster import AutomationCondition

# What the daemon evaluates a freshness policy with has no public name.
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time

from historical_etl.assets.price_catalog import FOLLOW_NEW_YEARS

pytestmark = pytest.mark.filterwarnings("ignore:Parameter `backfill_policy`:dagster.BetaWarning")

YEARS = dg.TimeWindowPartitionsDefinition(
    cron_schedule="0 0 1 1 *", fmt="%Y", start="2000", end="2004", timezone="America/New_York"
)
RANGE = {"dagster/asset_partition_range_start": "2001", "dagster/asset_partition_range_end": "2003"}
PRICES, CATALOG = dg.AssetKey("prices"), dg.AssetKey("catalog")


@pytest.fixture
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path_factory.mktemp("dagster"))) as ephemeral:
        yield ephemeral


def prices(body: Callable[[dg.AssetExecutionContext], Any], **options: Any) -> dg.AssetsDefinition:
    def prices(context: dg.AssetExecutionContext):
        return body(context)

    decorate: Any = dg.asset
    return decorate(partitions_def=YEARS, backfill_policy=dg.BackfillPolicy.single_run(), **options)(prices)


def materialize(assets, instance: dg.DagsterInstance, **options) -> dg.ExecuteInProcessResult:
    return dg.materialize(assets, instance=instance, raise_on_error=False, **options)


def events(instance: dg.DagsterInstance) -> list[dg.AssetMaterialization]:
    records = instance.fetch_materializations(PRICES, limit=100, ascending=True).records
    return [record.asset_materialization for record in records if record.asset_materialization]


# ── decision: a year is not reported at its commit but when the step ends; the rest is found in the store ──────────


def test_an_event_logged_for_a_year_comes_again_when_the_step_ends_well(instance: dg.DagsterInstance) -> None:
    def body(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        context.log_event(dg.AssetMaterialization(PRICES, partition="2001"))
        return dg.MaterializeResult()

    assert materialize([prices(body)], instance, tags=RANGE).success
    assert [event.partition for event in events(instance)] == ["2001", "2001", "2002", "2003"]


def test_an_output_that_is_withheld_to_avoid_that_skips_what_is_downstream(instance: dg.DagsterInstance) -> None:
    @dg.multi_asset(
        specs=[dg.AssetSpec(PRICES, skippable=True, partitions_def=YEARS)],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def withheld(context: dg.AssetExecutionContext):
        context.log_event(dg.AssetMaterialization(PRICES, partition="2001"))
        yield from ()

    @dg.asset(deps=[PRICES], backfill_policy=dg.BackfillPolicy.single_run())
    def catalog() -> None: ...

    result = materialize([withheld, catalog], instance, tags=RANGE)

    assert [event.partition for event in events(instance)] == ["2001"]
    assert [event.step_key for event in result.all_events if event.is_step_skipped] == ["catalog"]


def test_events_logged_before_a_failure_stay(instance: dg.DagsterInstance) -> None:
    def body(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        context.log_event(dg.AssetMaterialization(PRICES, partition="2002"))
        raise dg.Failure("2001 and 2003")

    assert not materialize([prices(body)], instance, tags=RANGE).success
    assert [event.partition for event in events(instance)] == ["2002"]


# ── decision: metadata by year, one data version for a range ───────────────────────────────────────────────────────


def test_metadata_is_by_year_and_the_data_version_is_the_ranges(instance: dg.DagsterInstance) -> None:
    def body(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        for key in context.partition_keys:
            context.add_asset_metadata({"year": int(key)}, partition_key=key)
        return dg.MaterializeResult(data_version=dg.DataVersion("one for all"))

    materialize([prices(body)], instance, tags=RANGE)

    assert [event.metadata["year"].value for event in events(instance)] == [2001, 2002, 2003]
    assert {(event.tags or {})["dagster/data_version"] for event in events(instance)} == {"one for all"}


def test_there_is_no_single_partition_key_in_a_range(instance: dg.DagsterInstance) -> None:
    result = materialize([prices(lambda context: context.partition_key)], instance, tags=RANGE)

    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert "Cannot access partition_key for a partitioned run with a range of partitions" in str(
        failure.step_failure_data.error
    )


# ── decision: the checks sit on the catalog, which has no partitions ───────────────────────────────────────────────


def test_a_blocking_check_on_the_years_leaves_open_rows(instance: dg.DagsterInstance) -> None:
    check = dg.AssetCheckSpec("check", asset=PRICES, blocking=True, partitions_def=YEARS)
    passed = dg.AssetCheckResult(passed=True, check_name="check")
    asset = prices(lambda _: dg.MaterializeResult(check_results=[passed]), check_specs=[check])

    materialize([asset], instance, tags=RANGE)

    history = instance.event_log_storage.get_asset_check_execution_history(check.key, limit=10)
    assert sorted((record.partition or "", record.status.value) for record in history) == [
        ("", "SUCCEEDED"),
        ("2001", "PLANNED"),
        ("2002", "PLANNED"),
        ("2003", "PLANNED"),
    ]


# ── decision: the catalog has an automation condition of its own, and not `eager()` ────────────────────────────────


def requested(condition: AutomationCondition[Any], instance: dg.DagsterInstance, *years: str) -> int:
    """How many catalogs are asked for after a run over one year, or over a range that fails after its first."""

    @dg.asset(deps=[PRICES], automation_condition=condition, backfill_policy=dg.BackfillPolicy.single_run())
    def catalog() -> None: ...

    def body(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        if len(context.partition_keys) > 1:
            context.log_event(dg.AssetMaterialization(PRICES, partition=context.partition_keys[0]))
            raise dg.Failure("the other years")
        return dg.MaterializeResult()

    defs = dg.Definitions([prices(body), catalog], executor=dg.in_process_executor)
    target = dg.AssetSelection.assets(CATALOG)
    before = dg.evaluate_automation_conditions(defs, instance, target)
    # With a selection, as the command line and the UI launch it: the condition looks at what the run had planned.
    defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        raise_on_error=False,
        asset_selection=[PRICES] if len(years) == 1 else [PRICES, CATALOG],
        **({"partition_key": years[0]} if len(years) == 1 else {"tags": RANGE}),  # pyright: ignore[reportArgumentType]
    )
    return dg.evaluate_automation_conditions(defs, instance, target, cursor=before.cursor).total_requested


def test_eager_is_silent_while_a_year_is_missing(instance: dg.DagsterInstance) -> None:
    assert requested(AutomationCondition.eager(), instance, "2001") == 0
    assert requested(FOLLOW_NEW_YEARS, instance, "2002") == 1


def test_eager_without_that_overlooks_the_good_years_of_a_failed_run(instance: dg.DagsterInstance) -> None:
    eager = AutomationCondition.eager().without(~AutomationCondition.any_deps_missing())

    assert requested(eager, instance, "2001") == 1
    assert requested(eager, instance, "2001", "2003") == 0
    assert requested(FOLLOW_NEW_YEARS, instance, "2001", "2003") == 1


# ── decision: an increment publishes in its own step where Dagster does not run that of the catalog ────────────────


def checked_catalog() -> dg.AssetsDefinition:
    @dg.asset(
        deps=[PRICES],
        check_specs=[dg.AssetCheckSpec("check", asset=CATALOG)],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def catalog():
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])

    return catalog


def test_another_step_of_the_run_may_report_a_check_and_none_stays_open(instance: dg.DagsterInstance) -> None:
    # The steps have the order of ours. With the catalog's first, Dagster plans its check for the partition.
    @dg.multi_asset(
        specs=[dg.AssetSpec(PRICES, skippable=True, partitions_def=YEARS)],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def before(context: dg.AssetExecutionContext):
        # Not in the type of the method, nor in its documentation.
        evaluation: Any = dg.AssetCheckEvaluation(asset_key=CATALOG, check_name="check", passed=False)
        context.log_event(evaluation)
        yield from ()

    materialize([before, checked_catalog()], instance, partition_key="2001")

    history = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(CATALOG, "check"), limit=10)
    assert [(record.status.value, record.partition) for record in history] == [("FAILED", None)]


def test_a_check_that_is_reported_does_not_let_the_step_after_a_withheld_output_run(
    instance: dg.DagsterInstance,
) -> None:
    @dg.multi_asset(
        specs=[dg.AssetSpec(PRICES, skippable=True, partitions_def=YEARS)],
        check_specs=[dg.AssetCheckSpec("check", asset=PRICES, blocking=True)],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def withheld(context: dg.AssetExecutionContext):
        yield dg.AssetCheckResult(asset_key=PRICES, passed=True, check_name="check")

    result = materialize([withheld, checked_catalog()], instance, tags=RANGE)

    assert [event.step_key for event in result.all_events if event.is_step_skipped] == ["catalog"]


def test_a_step_that_fails_after_its_result_has_all_its_events_and_nothing_follows(
    instance: dg.DagsterInstance,
) -> None:
    def body(context: dg.AssetExecutionContext):
        yield dg.MaterializeResult()
        raise dg.Failure("some symbols")

    def generated(context: dg.AssetExecutionContext):
        yield from body(context)

    decorate: Any = dg.asset
    failing = decorate(key=PRICES, partitions_def=YEARS, backfill_policy=dg.BackfillPolicy.single_run())(generated)
    result = materialize([failing, checked_catalog()], instance, tags=RANGE)

    assert [event.partition for event in events(instance)] == ["2001", "2002", "2003"], "changed or not"
    assert not [event for event in result.all_events if event.step_key == "catalog"]


# ── decision: the job of the increment says what it is in a tag, and not only in its configuration ─────────────────


class Configured(dg.Config):
    word: str = "default"


def test_the_configuration_of_a_job_is_for_runs_of_one_partition_only(instance: dg.DagsterInstance) -> None:
    said: list[tuple[str, str | None]] = []

    @dg.asset(key=PRICES, partitions_def=YEARS, backfill_policy=dg.BackfillPolicy.single_run())
    def prices(context: dg.AssetExecutionContext, config: Configured) -> None:
        said.append((config.word, context.run.tags.get("tagged")))

    job = dg.define_asset_job(
        "job", [PRICES], config={"ops": {"prices": {"config": {"word": "configured"}}}}, tags={"tagged": "yes"}
    )
    resolved = dg.Definitions([prices], jobs=[job], executor=dg.in_process_executor).resolve_job_def("job")

    assert resolved.execute_in_process(instance=instance, partition_key="2001").success
    assert resolved.execute_in_process(instance=instance, tags=RANGE).success
    assert resolved.execute_in_process(instance=instance).success
    assert said == [("configured", "yes"), ("default", "yes"), ("default", "yes")]


# ── decision: the freshness policy tells that nothing runs any more, and nothing of the newest session ─────────────


@pytest.mark.parametrize(
    ("age", "state"),
    [(timedelta(days=1), "PASS"), (timedelta(days=4, hours=1), "WARN"), (timedelta(days=6), "FAIL"), (None, "UNKNOWN")],
)
def test_a_time_window_is_about_the_newest_event_of_any_year(
    instance: dg.DagsterInstance, age: timedelta | None, state: str
) -> None:
    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=5), warn_window=timedelta(days=4))
    years = prices(lambda _: dg.MaterializeResult(), freshness_policy=policy)
    if age is not None:
        # An old year, by hand: the years after it were never there.
        materialize([years], instance, partition_key="2001")
    node = dg.Definitions([years]).resolve_asset_graph().get(PRICES)
    evaluator = TimeWindowFreshnessPolicyEvaluator()

    with freeze_time(datetime.now(UTC) + (age or timedelta())):
        assert asyncio.run(evaluator.evaluate_freshness(LoadingContextForTest(instance), node)).value == state
