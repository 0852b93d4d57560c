from .clock_trust import clock_notes as clock_notes
from .decisions import Decisions as Decisions
from .price_runs import PriceRuns as PriceRuns
from .progress import RunProgress as RunProgress
from .run_stats import YearEvent as YearEvent
from .windows import RUNS_LOG as RUNS_LOG
from .windows import RunSteps as RunSteps
