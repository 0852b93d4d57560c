"""The command line: `historical-etl …`. Data on stdout, everything else on stderr."""

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, by default the one this process was started with; returns its exit code."""
    try:
        from historical_etl.cli import app

        return app.main(argv)
    except KeyboardInterrupt:  # while modules are still being imported
        return 130
