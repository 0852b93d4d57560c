"""What runs in a worker: one task after the other, each within its limits. Started by `pool`, and ends with it.

A task is a function of this package that returns an `Answer`. Its arguments come pickled, from the process that is
trusted; what goes back is JSON, and a frame in a file as Arrow IPC, since a worker deals with what is not.
"""

import importlib
import json
import os
import pickle
import resource
import select
import socket
import sys
import threading
from typing import IO, TYPE_CHECKING, Final

from historical_etl.errors import HistoricalETLError
from historical_etl.workers.answer import HEAD, MOST_FACTS, SIZE, Answer
from historical_etl.workers.limits import Limits, held

if TYPE_CHECKING:
    from collections.abc import Callable

__all__: list[str] = []

_SHOWN: Final = 2_000  # characters of a message


def _main(descriptor: int, module: str) -> None:
    importlib.import_module(module)
    connection = socket.socket(fileno=descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_the_other, args=(descriptor,), daemon=True).start()
    connection.sendall(SIZE.pack(0))
    while True:
        head, files, _, _ = socket.recv_fds(connection, HEAD.size, 1)
        if not head:
            return
        size, seconds, memory = HEAD.unpack(head)
        with os.fdopen(files[0], "wb") as file:
            reply = json.dumps(_perform(connection, size, Limits(seconds, memory), file)).encode()
        connection.sendall(SIZE.pack(len(reply)) + reply)


def _perform(connection: socket.socket, size: int, limits: Limits, file: IO[bytes]) -> dict[str, object]:
    """The reply: `facts` and whether there is a frame, or an error as its class, and what, where and todo."""
    try:
        with held(limits):  # what is asked counts, too
            payload = bytearray(size)
            _receive(connection, memoryview(payload))
            task, arguments = pickle.loads(payload)  # noqa: S301 - from the pool alone
            del payload
            module, _, name = task.partition(":")
            function: Callable[..., Answer] = getattr(importlib.import_module(module), name)
            answer = function(**arguments)
            if answer.frame is not None:
                answer.frame.write_ipc(file)
        if len(json.dumps(answer.facts)) > MOST_FACTS:
            return {"error": "memory"}
    except HistoricalETLError as error:
        return {"error": type(error).__name__, "what": error.what, "where": error.where, "todo": error.todo}
    except MemoryError:
        return {"error": "memory"}
    except BaseException as error:  # noqa: BLE001 - a panic of Polars is one
        return {"error": "other", "what": f"{type(error).__name__}: {str(error)[:_SHOWN]}"}
    return {"facts": answer.facts, "frame": answer.frame is not None}


def _receive(connection: socket.socket, payload: memoryview) -> None:
    while payload:
        got = connection.recv_into(payload)
        if not got:
            os._exit(1)
        payload = payload[got:]


def _end_with_the_other(descriptor: int) -> None:
    """End as soon as the process that asks is gone, also in the middle of a task."""
    watch = select.poll()
    watch.register(descriptor, 0)  # a hang-up always wakes it
    watch.poll()
    os._exit(1)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2])
