"""Every shell block of README and of docs/getting-started.md runs in order, as a user types it in a clone, and prints
what the page shows.

Three differences from a user's terminal. The service is the tests' own, so `localhost:8000` becomes its address. The
tests' own environment stands for the one that `make` creates. Targets of `make` are read with `make -n`, which proves
that they exist; only the commands behind `make demo` are run, on a small folder, since the documentation of all
installed packages takes minutes and `make stop` would end the service that other tests use.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import README, ROOT, Example, examples
from tests.integration.running import Run, http
from tests.services import require

GUIDES = (README, ROOT / "docs" / "getting-started.md")
ACTIVATE = "source .venv/bin/activate"
MAKE = re.compile(r"^make (\w[\w-]*)(?: .*)?$")
INSTALLED = ("-o", ".venv/installed", "-o", "install")  # taken for up to date, so that nothing is installed
VARIES = re.compile(r"\b[0-9a-f]{8}\b|\d[\d,]*(\.\d+)?")  # a release's digest, which depends on the CPU; numbers


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a clone has, so that files which the commands write are not left in the repository."""
    for entry in ROOT.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


@pytest.fixture
def only_own_collections(service: Run) -> Iterator[None]:
    before = collections(service)
    yield
    for name in collections(service) - before:
        assert http("DELETE", f"{service.url}/v1/collections/{name}")[0] == 200


def collections(service: Run) -> set[str]:
    return {each["name"] for each in http("GET", f"{service.url}/v1/collections")[1]["collections"]}


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("only_own_collections")
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_the_commands_of_a_guide_run_and_print_what_it_shows(guide: Path, service: Run, clone: Path) -> None:
    for program in ("bash", "curl", "make"):
        require(program)
    own = examples(guide)
    assert len(own) > 3
    for example in own:
        printed = run(commands_of(example.commands, service, clone), service, clone)
        if example.output is not None:
            assert_alike(example, printed)


def commands_of(text: str, service: Run, clone: Path) -> str:
    """What stands for them here, see above."""
    lines: list[str] = []
    for line in text.splitlines():
        if target := MAKE.match(line):
            behind = made(line, clone)
            lines += [each for each in behind.splitlines() if target[1] == "demo"]
        elif line != ACTIVATE:
            lines.append(line)
    commands = "\n".join(lines).replace(".venv/bin/python", "python").replace("localhost:8000", address(service))
    return commands.replace("--source python-packages", "--source docs/examples/handbook")


def made(line: str, clone: Path) -> str:
    """The commands that `make TARGET` would run."""
    _, *arguments = line.partition("#")[0].split()
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", *INSTALLED, *arguments],
        cwd=clone, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout, done.stderr
    return done.stdout


def address(service: Run) -> str:
    return service.url.removeprefix("http://")


def run(commands: str, service: Run, clone: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), service.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env=service.environ | {"PATH": path}, cwd=clone, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def assert_alike(example: Example, printed: str) -> None:
    """JSON has the same fields of the same types. Text has the same lines, numbers and digests aside; what a page
    leaves out, it marks with `…`."""
    assert example.output is not None
    if example.output.language == "json":
        assert shape(last_json(printed)) == shape(json.loads(example.output.text)), f"{example.commands}\n{printed}"
        return
    if "make demo" in example.commands:  # another collection here: only the form of each line is the page's
        kinds = [kind_of(line) for line in printed.splitlines()]
        assert {kind_of(line) for line in example.output.text.splitlines()} <= {*kinds, "…"}, printed
        return
    for line in example.output.text.splitlines():
        pattern = re.escape(VARIES.sub("0", line.removesuffix(" …"))).replace("…", ".*")
        assert any(re.search(pattern, VARIES.sub("0", each)) for each in printed.splitlines()), f"{line}\n{printed}"


def last_json(printed: str) -> Any:
    """curl ends no line, so that values of several calls may stand in one."""
    decoder, values = json.JSONDecoder(), []
    line = printed.strip().splitlines()[-1]
    while line:
        value, end = decoder.raw_decode(line)
        values.append(value)
        line = line[end:]
    return values[-1]


def kind_of(line: str) -> str:
    """Of a line of `make demo`."""
    kinds = {"hit": r" *\d+\.\d{3}  \S", "text": r" {8}\S", "end": r"\d+ hits in [\d.]+ ms \(.+\)$"}
    kinds |= {"url": "(already running|the search page): http://", "result": r'\{"documents": '}
    return next((name for name, pattern in kinds.items() if re.match(pattern, line)), line)


def shape(value: Any) -> Any:
    """Names and types; of a list, those of its first element."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
