"""The `files` source: a folder, a glob or one file of CSV (.csv, .txt, .tsv, each also .gz) or Parquet dumps.

Columns are known by the names that exports give them (`spellings`), or mapped by `FilesSettings.columns`. How a file
writes dates, numbers and fields is set by the settings, else by the file itself where it can mean one thing only.
The symbol is the setting `symbol`, else the column, else a folder (`symbol=AAPL`), else the file's name (`names`).

The rows of a symbol must be of one series (`joins`): nothing is joined by chance.

What cannot be read is skipped and reported, and the rest goes on: a row for a value that is none, a file for what
spoils it as a whole. No value is guessed. Row rules (duplicates, price bounds, sessions) are `quality`'s.

CSV is parsed and checked once, into a scratch copy with one Parquet folder for each year; Parquet files are read where
they lie. So asking year by year reads each byte of CSV once. An instance sees the files as they were when it was made,
until `look_anew` takes them as they are: each run begins with it.
"""

from historical_etl.sources.files.read_plan import REASONS as UNREADABLE
from historical_etl.sources.files.source import FilesSource

__all__ = ["UNREADABLE", "FilesSource"]
