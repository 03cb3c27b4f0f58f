"""A collection is reindexed while it is searched and written to: no error, no answer of both indexes, nothing lost."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from jobs.cutting import Plan
from jobs.dead_letters import DeadLetterFile
from jobs.reindex import cli, reindexed
from jobs.reindex_plan import AnotherAnswers, versions_of
from jobs.reindex_run import Session, Wish, Work, copy_few
from jobs.reindex_switch import drop_others, take_over
from serve_app.deployments.gateway import GatewayDeployment
from serve_app.deployments.store import connect_store
from serve_app.documents.indexing import cut
from serve_app.embedding.models import resolve_model
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.errors import Conflict, InvalidInput
from serve_app.settings import ChunkingSettings, Settings
from serve_app.types import FIRST_INDEX, Document, IndexInfo, Recipe, Scope
from tests.contracts.corpus import SPACE
from tests.contracts.corpus import document as made
from tests.jobs.contents import contents, require_equal

ROOT = Path(__file__).parents[2]
DEADLINE_S = 150.0
DOCUMENTS = 80
MANY = 200  # more than one block, so that a run can be killed between
FINE_TOKENS = 64
QUERIES = ["pistons of an engine", "ships that cross the sea", "what turns in the night", "part of version"]


def command(settings: Settings, collection: str, *arguments: str, address: str) -> tuple[list[str], dict[str, str]]:
    environ = {
        "AIDOCS_DATA_DIR": str(settings.data_dir),
        "AIDOCS_EMBEDDING__ALSO": json.dumps(settings.embedding.also),
    }
    line = [sys.executable, "-m", "jobs.reindex", "--collection", collection, *arguments, "--address", address]
    return line, {**os.environ, **environ}


async def reindex(settings: Settings, collection: str, *arguments: str, address: str) -> dict[str, Any]:
    line, environ = command(settings, collection, *arguments, address=address)
    done = await asyncio.to_thread(
        subprocess.run, line, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


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


async def test_while_it_is_searched_and_written_to(two_models: Settings, ray_cluster: str) -> None:
    """Another chunking, back again, and another model, each time with the old index and the new one beside."""
    name, scope = "reindexed", Scope("local", "reindexed")
    fine = with_chunking(two_models, FINE_TOKENS)
    run = partial(reindex, two_models, name, address=ray_cluster)
    async with gateway(two_models) as client:
        traffic = Traffic(client, name)
        await traffic.put(*(document(number, 0) for number in range(DOCUMENTS)))
        told = await traffic.during(asyncio.create_task(run("--max-tokens", str(FINE_TOKENS))))
        assert (told["former"], told["verified"]) == ("first", 64)
        chunkings = {"": two_models, f"@{told['index']}": fine}
        releases = require_whole(traffic, chunkings)
        assert len(releases) == 2, "it was searched before the switch and after it"
        await require_clean(traffic, name, "clean-fine", fine)

        traffic.answers.clear()
        back = await traffic.during(asyncio.create_task(run("--rollback")))
        assert (back["index"], back["former"]) == ("first", told["index"])
        assert back["unchanged"] > 0, "what had not changed since was there"
        require_whole(traffic, chunkings)

        traffic.answers.clear()
        tiny = two_models.embedding.also[0]
        other = await traffic.during(asyncio.create_task(run("--model", tiny, "--drop-old")))
        assert set(other["dropped"]) == {"first", told["index"]}
        assert {release for release, _ in traffic.answers} - releases, "another release answers"
        assert [each.scope.index for each in await connect_store(two_models).indexes(scope)] == [other["index"]]
        of_tiny = two_models.model_copy(update={"embedding": two_models.embedding.of_each[1]})
        await require_clean(traffic, name, "clean-tiny", of_tiny)


def require_whole(traffic: Traffic, chunkings: Mapping[str, Settings]) -> set[str]:
    """Each answer is of the one index that its release names. The releases.

    chunkings: settings that an index's passages were cut with, by what it adds to the release's name."""
    texts = {index: passage_texts(traffic.versions, settings) for index, settings in chunkings.items()}
    assert not set.intersection(*texts.values()), "a text tells of which index it is"
    for release, hits in traffic.answers:
        _, at, index = release.partition("@")
        assert hits and set(hits) <= texts[at + index], f"hits of another index than {release}"
    return {release for release, _ in traffic.answers}


def test_of_two_at_once_the_later_one_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    """Both are ready, one switches, and a write is acknowledged by its index: the other's does not have it."""
    scope, session = Scope("local", "reindexed-twice"), Session(connect_store(settings))
    store, documents = session.store, [made(f"d{number}", "cats purr") for number in range(3)]
    with DeadLetterFile(tmp_path / "letters") as letters:
        try:
            session.ask(partial(store.write, scope, SPACE, documents))
            works = []
            for max_tokens in (64, 128):
                recipe = Recipe(SPACE, max_tokens)
                new, source = scope.at(recipe.index_name), scope.at(FIRST_INDEX)
                session.ask(partial(store.make_index, new, recipe))
                session.ask(partial(store.write, new, SPACE, documents))
                plan = Plan(new, SPACE, settings.without_secrets(), source=source)
                works.append(Work(session, plan, source, letters, lambda *_: None))
            copied = versions_of(session.stored(scope))
            faster, slower = works
            take_over(faster, copied)
            session.ask(partial(store.write, scope, SPACE, [made("d3", "dogs bark")]))
            with pytest.raises(AnotherAnswers, match=f"{faster.plan.scope.index} answers since, and not first"):
                take_over(slower, copied)
            assert session.ask(partial(store.answering, scope)).scope == faster.plan.scope
            session.ask(partial(store.write, scope, SPACE, [made("d4", "dogs bark")]))  # none waits for a hold
            assert {each.document_id for each in session.stored(scope)} == {f"d{number}" for number in range(5)}
        finally:
            session.close()


def test_an_index_that_answers_by_now_is_not_dropped(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another reindexing switches while this one looks for what it may drop."""
    scope, session = Scope("local", "dropped-too-late"), Session(connect_store(settings))
    store, recipe = session.store, Recipe(SPACE, 64)
    new = scope.at(recipe.index_name)
    try:
        session.ask(partial(store.write, scope, SPACE, [made("d", "cats purr")]))
        session.ask(partial(store.make_index, new, recipe))
        seen = session.ask(partial(store.indexes, scope))

        async def as_seen(_: Scope) -> list[IndexInfo]:
            return seen

        session.ask(partial(store.switch, new, session.ask(partial(store.hold, new, 5.0))))
        with monkeypatch.context() as late:
            late.setattr(store, "indexes", as_seen)
            with pytest.raises(Conflict, match=rf"index first answered, and {new.index} could not .* --drop-old again"):
                drop_others(session, scope)
        assert len(session.ask(partial(store.indexes, scope))) == 2
        assert drop_others(session, scope) == [FIRST_INDEX]
    finally:
        session.close()


def test_what_the_copier_raises_is_told_in_its_own_words(settings: Settings, tmp_path: Path) -> None:
    """And not as Ray's traceback; here it is that the index is of another model."""
    scope, session = Scope("local", "copied-too-late"), Session(connect_store(settings))
    space = resolve_model(settings.embedding, settings.data_dir).space
    source = scope.at(FIRST_INDEX)
    try:
        with DeadLetterFile(tmp_path / "letters") as letters:
            session.ask(partial(session.store.write, scope, SPACE, [made("d", "cats purr")]))
            plan = Plan(source, space, settings.without_secrets(), source=source)
            with pytest.raises(Conflict, match=r"^collection 'copied-too-late' was made with") as raised:
                copy_few(Work(session, plan, source, letters, lambda *_: None), {"d": None})
            assert type(raised.value) is Conflict
    finally:
        session.close()


def test_passages_that_hold_no_text_are_refused_before_anything_is_made(settings: Settings, tmp_path: Path) -> None:
    scope, session = Scope("local", "reindexed-to-nothing"), Session(connect_store(settings))
    space = resolve_model(settings.embedding, settings.data_dir).space
    try:
        session.ask(partial(session.store.write, scope, space, []))
        with DeadLetterFile(tmp_path / "letters") as letters, pytest.raises(InvalidInput, match="--max-tokens 9"):
            reindexed(session, scope, settings, Wish(max_tokens=9), letters=letters, advance=lambda *_: None)
        assert [each.scope.index for each in session.ask(partial(session.store.indexes, scope))] == [FIRST_INDEX]
    finally:
        session.close()


def started(line: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(line, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL)


async def test_a_run_that_is_killed_is_gone_on_with(two_models: Settings, ray_cluster: str) -> None:
    name, scope = "reindex-killed", Scope("local", "reindex-killed")
    store = connect_store(two_models)

    async def copied() -> int:
        built = [each.scope for each in await store.indexes(scope) if not each.answers]
        return (await store.count(built[0])).documents if built else 0

    async with gateway(two_models) as client:
        traffic = Traffic(client, name)
        for at in range(0, MANY, 100):
            await traffic.put(*(document(number, 0) for number in range(at, at + 100)))
        fine = ("--max-tokens", str(FINE_TOKENS), "--block-documents", "16")
        line, environ = command(two_models, name, *fine, address=ray_cluster)
        with started(line, environ) as run:
            try:
                deadline_s = time.monotonic() + DEADLINE_S
                while not await copied():
                    assert run.poll() is None and time.monotonic() < deadline_s
                    await asyncio.sleep(0.02)
            finally:
                run.kill()
        assert run.returncode == -9, "it was over before it could be killed"
        assert (await store.answering(scope)).scope.index == "first"
        await traffic.put(document(0, 1))
        await traffic.delete("d1")
        would = await reindex(two_models, name, *fine, "--dry-run", address=ray_cluster)
        assert (would["copied"], would["dry_run"]) == (0, True)
        told = await reindex(two_models, name, *fine, address=ray_cluster)
        assert told["unchanged"] > 0 and told["copied"] > 0 and told["documents"] == MANY - 1
        again = await reindex(two_models, name, *fine, address=ray_cluster)
        assert (again["index"], again["former"], again["copied"]) == (told["index"], None, 0)
        await require_clean(traffic, name, "clean-killed", with_chunking(two_models, FINE_TOKENS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what is to be another one: --model"),
        (["--rollback", "--max-tokens", "9"], "--rollback takes the former index as it is"),
        (["--index", "first", "--drop-old"], "--index says to which one --rollback returns"),
        (["--evaluate", ".", "--rollback"], "--evaluate compares a new index with the old one"),
        (["--evaluate", ".", "--max-tokens", "64", "--list"], "--evaluate compares a new index with the old one"),
        (["--precision", "fp64"], "'fp64' is not one of 'fp32', 'bf16', 'int8'"),
        (["--list", "--tenant", "a/b"], "'a/b' is not a tenant name"),
    ],
)
def test_wrong_use_says_what_to_do(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDOCS_DATA_DIR", str(tmp_path / "data"))
    done = CliRunner().invoke(cli, ["--collection", "c", *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_what_cannot_be(two_models: Settings, ray_cluster: str) -> None:
    for arguments, code, message in (
        (["--max-tokens", "64"], 1, "there is no collection 'nowhere'"),
        (["--model", "another"], 1, "there is no collection 'nowhere'"),
    ):
        line, environ = command(two_models, "nowhere", *arguments, address=ray_cluster)
        done = subprocess.run(line, env=environ, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
        assert (done.returncode, done.stdout) == (code, "")
        assert message in done.stderr
