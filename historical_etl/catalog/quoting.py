"""Names, texts and paths as SQL has them."""

__all__ = ["escape_glob", "quote_name", "quote_text"]


def quote_name(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def escape_glob(path: str) -> str:
    """A path that `read_parquet` takes literally, whatever characters it has."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)
