"""The command line: `historical-etl …`. Data on stdout, everything else on stderr."""

from historical_etl.cli.app import main

__all__ = ["main"]
