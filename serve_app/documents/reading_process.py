"""Reads files whose parsers may crash, hang or exhaust memory in a separate process. If that process dies, only the
file that it was reading fails."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import sys
from collections.abc import Generator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from serve_app.documents.readers.html import read_html
from serve_app.documents.readers.pdf import read_pdf
from serve_app.documents.readers.result import Reader, ReadFailure, ReadResult
from serve_app.documents.readers.tables import read_parquet
from serve_app.documents.reading import document_id, read_file, reader_of
from serve_app.errors import Unavailable
from serve_app.validation import mend

# Parsers in C, and parsers whose time and memory depend on the file's structure without a bound.
SEPARATE: frozenset[Reader] = frozenset({read_pdf, read_html, read_parquet})
RESULT_TIMEOUT_S = 300.0  # for each document of a file; a PDF of thousands of pages takes minutes
MAX_MEMORY_BYTES = 2 * 1024**3  # address space added to that of the process at its start
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0


class ReadingProcess:
    """Reads any file. The first file that needs it starts the process, in under a second; later files add 0.2 ms each.
    A process that died is started again. Not thread-safe. `close` ends the process, and so does the parent's exit."""

    def __init__(self, result_timeout_s: float = RESULT_TIMEOUT_S, max_memory_bytes: int = MAX_MEMORY_BYTES) -> None:
        self._result_timeout_s = result_timeout_s
        self._max_memory_bytes = max_memory_bytes
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def read(self, path: Path, root: Path) -> Generator[ReadResult, None, None]:
        """Like `read_file`. Raises Unavailable if the process cannot be started."""
        if reader_of(path) not in SEPARATE:
            yield from read_file(path, root)
            return
        connection = self._connection or self._start()
        through = False
        try:
            connection.send((path, root))
            while connection.poll(self._result_timeout_s):
                result: ReadResult | None = connection.recv()
                if result is None:
                    through = True
                    return
                yield result
            reason = f"one document took longer than {self._result_timeout_s:g} s"
        except (EOFError, ConnectionError):
            reason = "the process that read it died: its parser crashed or memory ran out"
        finally:
            if not through:  # the caller may have closed this generator early
                self.close()
        yield ReadFailure(mend(document_id(path, root)), f"cannot be read: {reason}; split, repair or convert it")

    def close(self) -> None:
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join(END_TIMEOUT_S)
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks held by Ray's threads
        connection, theirs = context.Pipe()
        arguments = theirs, self._result_timeout_s, self._max_memory_bytes
        process = context.Process(target=serve_files, args=arguments, name="reading", daemon=True)
        try:
            process.start()
            theirs.close()
            self._process, self._connection = process, connection
            if connection.poll(START_TIMEOUT_S):
                connection.recv()
                return connection
        except (OSError, EOFError) as error:
            reason = str(error) or "it ended immediately"
        else:
            reason = f"it did not respond within {START_TIMEOUT_S:g} s"
        self.close()
        raise Unavailable(f"the process that reads PDF, HTML and Parquet does not start: {reason}")


def serve_files(connection: Connection, result_timeout_s: float, max_memory_bytes: int) -> None:
    """The loop of the separate process: answers each (path, root) with its results and then None, until the parent
    closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    if sys.platform == "linux":  # other systems do not enforce RLIMIT_AS
        limit_bytes = psutil.Process().memory_info().vms + max_memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    own_limit_s = 2 * result_timeout_s  # ends a parser that hangs after the parent has gone
    with suppress(EOFError, ConnectionError):
        connection.send(None)
        while True:
            path, root = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, own_limit_s)
            for result in read_file(path, root):
                signal.setitimer(signal.ITIMER_REAL, 0)  # sending may wait for a slow parent
                connection.send(result)
                signal.setitimer(signal.ITIMER_REAL, own_limit_s)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send(None)
