"""How the lines of strace become calls in the order in which they took effect."""

from historical_etl_tests.proofs.crash.tracing import recorded_calls


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def test_a_descriptor_is_free_from_where_its_close_begins(tmp_path):
    """Another thread may be given its number before strace writes that the close has ended."""
    log = tmp_path / "log"
    was, now = hexed("/data/a"), hexed("/data/b")
    log.write_text(
        f"11 close(15<{was}> <unfinished ...>\n"
        f'12 openat(AT_FDCWD<{hexed("/")}>, "{now}", O_RDONLY) = 15<{now}>\n'
        "11 <... close resumed>) = 0\n"
        f"12 lseek(15<{now}>, 0, SEEK_SET) = 0\n"
    )
    calls = [(call.name, call.paths[0], call.result) for call in recorded_calls(log)]
    assert calls == [("close", "/data/a", 0), ("openat", "/data/b", 15), ("lseek", "/data/b", 0)]


def test_any_other_call_counts_where_it_has_ended(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        f"11 fsync(15<{hexed('/data/a')}> <unfinished ...>\n"
        f"12 fsync(16<{hexed('/data/b')}>) = 0\n"
        "11 <... fsync resumed>) = 0\n"
    )
    assert [call.paths[0] for call in recorded_calls(log)] == ["/data/b", "/data/a"]
