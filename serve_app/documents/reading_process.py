"""Files whose parsers may crash, hang or take all memory are read in a process of their own: its death is a failure of
that file and of nothing else."""

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

# Parsers in C, or of files whose structure may cost any time and memory.
SEPARATE: frozenset[Reader] = frozenset({read_pdf, read_html, read_parquet})
RESULT_TIMEOUT_S = 300.0  # for each document of a file; a PDF of thousands of pages takes minutes
MAX_MEMORY_BYTES = 2 * 1024**3  # of address space, besides what the process has when it starts
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0


class ReadingProcess:
    """Reads any file. Its process starts with the first that needs it (under a second; then 0.2 ms a file), and again
    after it has died. For one thread; `close` ends it, and so does the end of this process."""

    def __init__(self, result_timeout_s: float = RESULT_TIMEOUT_S, max_memory_bytes: int = MAX_MEMORY_BYTES) -> None:
        self._result_timeout_s = result_timeout_s
        self._max_memory_bytes = max_memory_bytes
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def read(self, path: Path, root: Path) -> Generator[ReadResult, None, None]:
        """As `read_file`. Raises Unavailable if no process can be started."""
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
            reason = "the process that read it died, by its parser or for want of memory"
        finally:
            if not through:  # also when the caller wants no more
                self.close()
        yield ReadFailure(mend(document_id(path, root)), f"cannot be read: {reason}; split, mend or convert it")

    def close(self) -> None:
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join(END_TIMEOUT_S)
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")  # a fork would take over the locks of Ray's threads
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
            reason = str(error) or "it ended at once"
        else:
            reason = f"no sign of it in {START_TIMEOUT_S:g} s"
        self.close()
        raise Unavailable(f"the process that reads PDF, HTML and Parquet does not start: {reason}")


def serve_files(connection: Connection, result_timeout_s: float, max_memory_bytes: int) -> None:
    """In the process: answers each (path, root) with its results and None, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other's to handle
    if sys.platform == "linux":  # elsewhere there is no such limit
        limit_bytes = psutil.Process().memory_info().vms + max_memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    own_limit_s = 2 * result_timeout_s  # ends a parser that hangs where nobody waits for it any more
    with suppress(EOFError, ConnectionError):
        connection.send(None)
        while True:
            path, root = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, own_limit_s)
            for result in read_file(path, root):
                signal.setitimer(signal.ITIMER_REAL, 0)  # sending waits for the other, who may be slow
                connection.send(result)
                signal.setitimer(signal.ITIMER_REAL, own_limit_s)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send(None)
