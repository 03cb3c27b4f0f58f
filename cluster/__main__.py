"""`python -m cluster`: manifests for Kubernetes, rendered and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from cluster import render as rendering
from cluster.environment import ENVIRONMENTS, load_environment
from cluster.validate import run as checks
from cluster.validate.manifests import Manifests
from serve_app.errors import ConfigurationError

FAILED, USAGE = 1, 2

RENDER_EXAMPLES = """\b
Examples:
  python -m cluster render --env production --out manifests/
  python -m cluster render --env staging --set gateway.max_replicas=20 --out manifests/
  python -m cluster render --env dev --check
  python -m cluster render --env dev | kubectl apply --dry-run=server -f -

Without --out everything goes to stdout, one document after the other. --check compares with cluster/manifests/ and
shows the difference: exit code 1 if there is one. Secrets are references; no output holds one.
Exit code: 0 done, 1 --check found a difference, 2 wrong use or an environment that cannot be."""

cli = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
out, err = Console(highlight=False), Console(stderr=True, highlight=False)


def fail(message: str, code: int) -> NoReturn:
    err.print(Text(f"error: {message}"), soft_wrap=True)
    raise typer.Exit(code)


@cli.callback()
def main() -> None:
    """Manifests for Kubernetes, rendered and checked."""


@cli.command(epilog=RENDER_EXAMPLES)
def render(
    *,
    env: Annotated[str, typer.Option(help=f"One of {', '.join(ENVIRONMENTS)}.")],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Write one file for each object here.", show_default="stdout")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the environment.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare with cluster/manifests/ and write nothing.")] = False,
) -> None:
    """Render the manifests of an environment."""
    try:
        files = rendering.render(load_environment(env, overrides or ()))
    except ConfigurationError as error:
        fail(str(error), USAGE)
    if check:
        folder = rendering.MANIFESTS / env
        lines = [*rendering.differences(rendering.read(folder) if folder.is_dir() else {}, files)]
        if lines:
            out.print(Text("\n".join(lines)), soft_wrap=True)
            fail(f"{folder} is not what is rendered: python -m cluster render --env {env} --out {folder}", FAILED)
        err.print(f"{len(files)} manifests of {env} are as committed")
    elif out_folder:
        try:
            changed = rendering.write(out_folder, files)
        except OSError as error:
            fail(f"{error.filename or out_folder} cannot be written: {error.strerror}", USAGE)
        err.print(f"{out_folder}: {len(files)} manifests, {changed} changed")
    else:
        print("---\n" + "---\n".join(files.values()), end="")


VALIDATE_EXAMPLES = """\b
Examples:
  python -m cluster validate
  python -m cluster validate manifests/

Checks what a schema cannot see: enums that KubeRay refuses late, bounds, ports, selectors, secrets and config maps,
pods that fit on a node, disruption budgets, network policies, images without a version. Without a folder it checks all
committed manifests. Each finding is a line: file, path in the object, reason.
Exit code: 0 nothing found, 1 findings, 2 wrong use or a folder without manifests."""


@cli.command(epilog=VALIDATE_EXAMPLES)
def validate(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Manifests of one environment.")] = None,
) -> None:
    """Check manifests for what a schema cannot see."""
    folders = [folder] if folder else [rendering.MANIFESTS / name for name in ENVIRONMENTS]
    count = 0
    for each in folders:
        try:
            manifests = Manifests.read(each)
        except ConfigurationError as error:
            fail(str(error), USAGE)
        findings = checks.validate(manifests)
        for finding in findings:
            print(f"{each / finding.file}: {finding.path}: {finding.reason}")
        err.print(f"{each}: {len(manifests.all)} objects, {len(findings)} findings")
        count += len(findings)
    if count:
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    cli()
