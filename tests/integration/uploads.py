"""Clients that upload while something happens to the service, and what became of their documents."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from tests.integration.running import http

PAUSE_S = 0.2


@dataclass
class Uploads:
    """Ids of documents, and why some were not acknowledged."""

    acknowledged: list[str] = field(default_factory=list)
    failures: list[object] = field(default_factory=list)

    def upload(self, collection_url: str, id: str) -> None:
        try:
            status, answer = http("POST", f"{collection_url}/documents", {"documents": [memo(id)]})
        except (OSError, HTTPException, ValueError) as error:  # no answer, or a proxy's page
            self.failures.append(error)
        else:
            if status == 200 and answer["indexed"] == 1:
                self.acknowledged.append(id)
            else:
                self.failures.append((status, answer))


def memo(id: str) -> dict[str, str]:
    return {"id": id, "text": f"Memo {id} is one of many."}


@contextmanager
def uploading(collection_url: str, clients: int = 2) -> Iterator[Uploads]:
    """Each client sends one document after the other until the context ends."""
    uploads, finished = Uploads(), threading.Event()

    def client(name: str) -> None:
        for number in itertools.count():
            if finished.is_set():
                return
            uploads.upload(collection_url, f"memo{name}{number}")

    threads = [threading.Thread(target=client, args=(name,)) for name in "abcdefgh"[:clients]]
    for thread in threads:
        thread.start()
    try:
        yield uploads
    finally:
        finished.set()
        for thread in threads:
            thread.join()


def slow_upload(collection_url: str, ids: Sequence[str], go_on: threading.Event) -> int:
    """One request that sends its last document when it may go on, and a space now and then until then. The status."""
    *rest, last = (json.dumps(memo(id)) for id in ids)

    def body() -> Iterator[bytes]:
        yield ('{"documents": [' + ",".join(rest)).encode()
        while not go_on.wait(PAUSE_S):
            yield b" "
        yield f",{last}]}}".encode()

    address = urlsplit(collection_url)
    connection = HTTPConnection(address.netloc, timeout=60)
    try:
        connection.request("POST", f"{address.path}/documents", body(), {"content-type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def missing_documents(collection_url: str, ids: Sequence[str]) -> list[str]:
    """Those that a search for them does not find."""
    return [id for id in ids if id not in found(collection_url, id)]


def found(collection_url: str, word: str) -> list[str]:
    status, answer = http("POST", f"{collection_url}/search", {"query": word, "mode": "sparse", "limit": 3})
    assert status == 200, answer
    return [hit["document_id"] for hit in answer["hits"]]
