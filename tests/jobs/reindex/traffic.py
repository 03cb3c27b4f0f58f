"""Searches and writes during a reindexing, and checks of the collection afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count, takewhile
from typing import Any

import httpx

from serve_app.deployments.gateway import GatewayDeployment
from serve_app.documents.indexing import cut
from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.settings import ChunkingSettings, Settings
from serve_app.types import Document, Scope
from tests.jobs.contents import contents, require_equal

DEADLINE_S = 150.0
DOCUMENTS = 80
QUERIES = ["pistons of an engine", "ships that cross the sea", "what turns in the night", "part of version"]


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = GatewayDeployment(settings).__serve_build_asgi_app__()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", timeout=60) as client:
        yield client


def document(number: int, version: int) -> dict[str, Any]:
    """Of several passages, whatever the chunking, one of which differs between versions."""
    parts = [
        f"Part {part} of document {number} tells of engine {part}. " + "It turns by night. " * 12 for part in range(4)
    ]
    return {"id": f"d{number}", "title": f"Document {number}", "text": "\n\n".join([f"Version {version}.", *parts])}


class Traffic:
    """Searches and writes without end, and what came of it."""

    def __init__(self, client: httpx.AsyncClient, collection: str) -> None:
        self.path = f"/v1/collections/{collection}"
        self.client = client
        self.documents: dict[str, dict[str, Any]] = {}
        self.versions: list[dict[str, Any]] = []  # that ever were
        self.answers: list[tuple[str, tuple[str, ...]]] = []  # release, texts of the hits
        self.numbers = count(DOCUMENTS)
        self.goes_on = True  # writing

    async def put(self, *documents: dict[str, Any]) -> None:
        self.versions += documents
        answer = await self.client.post(f"{self.path}/documents", json={"documents": documents})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["indexed"] + told["unchanged"] == len(documents) and told["failed"] == [], told
        self.documents |= {each["id"]: each for each in documents}

    async def delete(self, id: str) -> None:
        answer = await self.client.delete(f"{self.path}/documents/{id}")
        assert answer.status_code == 200, answer.text
        del self.documents[id]

    async def search(self) -> None:
        for number in count():
            query = {"query": f"{QUERIES[number % 4]} {number % 40}", "limit": 20}
            answer = await self.client.post(f"{self.path}/search", json=query)
            assert answer.status_code == 200, answer.text
            found = answer.json()
            self.answers.append((found["release"], tuple(hit["text"] for hit in found["hits"])))
            await asyncio.sleep(0.005)  # leaves room for the others on a small machine

    async def write(self) -> None:
        """New ones, changed ones, ones that change back, and deletions; each is to be seen at once. Ends itself: of a
        write that is cut off nobody knows whether it was done."""
        for turn in takewhile(lambda _: self.goes_on, count()):
            number = next(self.numbers)
            await self.put(document(number, 1), document(turn % DOCUMENTS, turn % 3))
            if turn % 3 == 0:
                await self.delete(f"d{number}")
            gone = (await self.client.get(f"{self.path}/documents/d{number}")).status_code == 404
            assert gone == (turn % 3 == 0)
            await asyncio.sleep(0.2)

    async def during(self, work: asyncio.Task[dict[str, Any]]) -> dict[str, Any]:
        """Until the work is done, and a while longer."""
        self.goes_on = True
        searching, writing = tasks = [asyncio.create_task(self.search()), asyncio.create_task(self.write())]
        try:
            done, _ = await asyncio.wait([work, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            before = len(self.answers)
            while len(self.answers) < before + 50:
                assert not any(task.done() for task in tasks)
                await asyncio.sleep(0.01)
            self.goes_on = False
            await asyncio.wait_for(writing, DEADLINE_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert searching.cancelled()
        return work.result()


def passage_texts(versions: list[dict[str, Any]], settings: Settings) -> set[str]:
    tokenizer = load_tokenizer(resolve_model(settings.embedding, settings.data_dir))
    return {
        passage.text
        for version in versions
        for passage in cut(Document(**version), tokenizer=tokenizer, chunking=settings.chunking).passages
    }


def with_chunking(settings: Settings, max_tokens: int) -> Settings:
    return settings.model_copy(update={"chunking": ChunkingSettings(max_tokens=max_tokens)})


async def require_clean(traffic: Traffic, collection: str, clean: str, settings: Settings) -> None:
    """The collection is as if its documents had been put into an empty one by a service with these settings."""
    async with gateway(settings) as client:
        other = Traffic(client, clean)
        await other.put(*traffic.documents.values())
    one, another = [await contents(Scope("local", name), settings) for name in (collection, clean)]
    require_equal(one, another)


def require_whole(traffic: Traffic, chunkings: Mapping[str, Settings]) -> set[str]:
    """Each answer is of the one index that its release names. The releases.

    chunkings: settings that an index's passages were cut with, by what it adds to the release's name."""
    texts = {index: passage_texts(traffic.versions, settings) for index, settings in chunkings.items()}
    assert not set.intersection(*texts.values()), "a text tells of which index it is"
    for release, hits in traffic.answers:
        _, at, index = release.partition("@")
        assert hits and set(hits) <= texts[at + index], f"hits of another index than {release}"
    return {release for release, _ in traffic.answers}
