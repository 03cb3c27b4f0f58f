"""A collection is reindexed during searches and writes: no error, no result that mixes two indexes, no lost write."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.pipeline.cutting import IndexingPlan
from jobs.pipeline.dead_letters import DeadLetterFile
from jobs.reindex.__main__ import cli, reindexed
from jobs.reindex.build import Reindexing, ReindexOptions, Session, copy_few
from jobs.reindex.plan import versions_of
from jobs.reindex.switch import drop_others, take_over
from serve_app.deployments.store import connect_store
from serve_app.embedding.models import resolve_model
from serve_app.errors import ActiveIndexChanged, Conflict, InvalidInput
from serve_app.settings import Settings
from serve_app.types import FIRST_INDEX, IndexInfo, Recipe, Scope
from tests.contracts.corpus import SPACE
from tests.contracts.corpus import document as made
from tests.jobs.reindex.traffic import (
    DEADLINE_S,
    DOCUMENTS,
    Traffic,
    document,
    gateway,
    require_clean,
    require_whole,
    with_chunking,
)

ROOT = Path(__file__).parents[3]
MANY = 200  # more than one block, so that a run can be killed between
FINE_TOKENS = 64


def command(settings: Settings, collection: str, *arguments: str, address: str) -> tuple[list[str], dict[str, str]]:
    environ = {
        "AIDOCS_DATA_DIR": str(settings.data_dir),
        "AIDOCS_EMBEDDING__FURTHER_MODELS": json.dumps(settings.embedding.further_models),
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
        tiny = two_models.embedding.further_models[0]
        other = await traffic.during(asyncio.create_task(run("--model", tiny, "--drop-old")))
        assert set(other["dropped"]) == {"first", told["index"]}
        assert {release for release, _ in traffic.answers} - releases, "another release answers"
        assert [each.scope.index for each in await connect_store(two_models).indexes(scope)] == [other["index"]]
        of_tiny = two_models.model_copy(update={"embedding": two_models.embedding.of_each[1]})
        await require_clean(traffic, name, "clean-tiny", of_tiny)


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
                plan = IndexingPlan(new, SPACE, settings.without_secrets(), source=source)
                works.append(Reindexing(session, plan, source, letters, lambda *_: None))
            copied = versions_of(session.stored(scope))
            faster, slower = works
            take_over(faster, copied)
            session.ask(partial(store.write, scope, SPACE, [made("d3", "dogs bark")]))
            with pytest.raises(ActiveIndexChanged, match=f"{faster.plan.scope.index} is active now, and not first"):
                take_over(slower, copied)
            assert session.ask(partial(store.active_index, scope)).scope == faster.plan.scope
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
            with pytest.raises(
                Conflict, match=rf"index first was active, and {new.index} could not .* --drop-old again"
            ):
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
            plan = IndexingPlan(source, space, settings.without_secrets(), source=source)
            with pytest.raises(Conflict, match=r"^collection 'copied-too-late' was made with") as raised:
                copy_few(Reindexing(session, plan, source, letters, lambda *_: None), {"d": None})
            assert type(raised.value) is Conflict
    finally:
        session.close()


def test_passages_that_hold_no_text_are_refused_before_anything_is_made(settings: Settings, tmp_path: Path) -> None:
    scope, session = Scope("local", "reindexed-to-nothing"), Session(connect_store(settings))
    space = resolve_model(settings.embedding, settings.data_dir).space
    try:
        session.ask(partial(session.store.write, scope, space, []))
        with DeadLetterFile(tmp_path / "letters") as letters, pytest.raises(InvalidInput, match="--max-tokens 9"):
            reindexed(session, scope, settings, ReindexOptions(max_tokens=9), letters=letters, advance=lambda *_: None)
        assert [each.scope.index for each in session.ask(partial(session.store.indexes, scope))] == [FIRST_INDEX]
    finally:
        session.close()


def started(line: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(line, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL)


async def test_a_run_that_is_killed_is_gone_on_with(two_models: Settings, ray_cluster: str) -> None:
    name, scope = "reindex-killed", Scope("local", "reindex-killed")
    store = connect_store(two_models)

    async def copied() -> int:
        built = [each.scope for each in await store.indexes(scope) if not each.is_active]
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
        assert (await store.active_index(scope)).scope.index == "first"
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
        ([], "nothing to do: add --model"),
        (["--rollback", "--max-tokens", "9"], "--rollback activates an index as it is"),
        (["--index", "first", "--drop-old"], "--index is only used with --rollback"),
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


def test_what_cannot_be(two_models: Settings, ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which is connected to the cluster."""
    monkeypatch.setenv("AIDOCS_DATA_DIR", str(two_models.data_dir))
    monkeypatch.setenv("AIDOCS_EMBEDDING__FURTHER_MODELS", json.dumps(two_models.embedding.further_models))
    for arguments, code, message in (
        (["--max-tokens", "64"], 1, "there is no collection 'nowhere'"),
        (["--model", "another"], 1, "there is no collection 'nowhere'"),
    ):
        done = CliRunner().invoke(cli, ["--collection", "nowhere", *arguments])
        assert (done.exit_code, done.stdout) == (code, "")
        assert message in done.stderr
