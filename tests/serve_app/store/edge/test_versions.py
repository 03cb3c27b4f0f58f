"""A collection's version advances with every write, in every process, even after a crash."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from serve_app.settings import StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.store.edge.versions import VersionCounters, VersionReader
from serve_app.types import Scope
from tests.contracts.corpus import SCOPE, SPACE, document

NAMES = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
SCOPES = st.builds(Scope, NAMES, NAMES)


@given(st.lists(SCOPES, min_size=1))
def test_every_advance_is_a_version_never_seen_before(tmp_path_factory: object, scopes: list[Scope]) -> None:
    folder = Path(tmp_path_factory.mktemp("versions"))  # type: ignore[attr-defined]
    owner, reader = VersionCounters(folder), VersionReader(folder)
    seen: dict[Scope, set[bytes]] = {}
    for scope in scopes:
        seen.setdefault(scope, set()).add(owner.current(scope))
        owner.advance(scope)
        assert reader.current(scope) == owner.current(scope)
        assert owner.current(scope) not in seen[scope]


def test_a_new_owner_is_a_new_version_for_readers_that_are_there(tmp_path: Path) -> None:
    reader = VersionReader(tmp_path)
    assert reader.current(SCOPE) is None
    VersionCounters(tmp_path)
    before = reader.current(SCOPE)
    VersionCounters(tmp_path)
    assert before != reader.current(SCOPE)
    (tmp_path / ".versions").unlink()
    VersionCounters(tmp_path)
    assert len({before, reader.current(SCOPE), None}) == 3


async def test_another_process_sees_each_write_when_it_is_acknowledged(tmp_path: Path) -> None:
    reading = (
        "import sys, pathlib\n"
        "from serve_app.store.edge.versions import VersionReader\nfrom serve_app.types import Scope\n"
        "reader = VersionReader(pathlib.Path(sys.argv[1]))\n"
        f"for line in sys.stdin: print(reader.current(Scope({SCOPE.tenant!r}, {SCOPE.collection!r})), flush=True)"
    )
    store = EdgeStore.open(tmp_path, StoreSettings())
    command = [sys.executable, "-c", reading, str(tmp_path / "store")]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    seen = []
    for change in (
        store.write(SCOPE, SPACE, [document("d", "text")]),
        store.write(SCOPE, SPACE, [document("d", "another text")]),
        store.delete_documents(SCOPE, ["d"]),
        store.drop(SCOPE),
    ):
        await change
        process.stdin.write(b"\n")
        seen.append((await process.stdout.readline()).decode().strip())
    process.stdin.close()
    assert await process.wait() == 0
    assert seen[-1] == str(await store.version(SCOPE))
    assert len(set(seen)) == 4
    await store.close()
