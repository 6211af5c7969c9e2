"""What the commands do; `cli` says how they are called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec
import yaml

from dask_constructs.operator_pod import VERSION

from .app import write
from .concepts_page import concepts
from .config import Configuration, load
from .diff import compared
from .diff.revisions import manifests
from .diff.text import FORMATS
from .failure import Failure
from .folders import complete, contents, new_folder, output, replace_file, write_files
from .helm import chart
from .init import start
from .keywords_page import keywords
from .kubectl_page import kubectl_page
from .manifests import read
from .metrics_page import metrics
from .permissions_page import permissions
from .reference import GENERATED, reasons, reference
from .reference import commands as reference_of_commands
from .release import release
from .render import render

CONFIGURATION = Path("synth/config.yaml")
_LOCK = Path("controller/requirements.lock")


def configuration(path: Path | None) -> Configuration:
    """The configuration in a file, or in the usual one, or the defaults."""
    if path is None and not CONFIGURATION.exists():
        return Configuration()
    return load(path or CONFIGURATION)


def synthesize(directory: Path, pages: Path, config: Configuration) -> None:
    """Write the manifests and, where there is a folder for it, the API reference."""
    texts = _pages(pages)
    for page in texts:
        if page.exists() and GENERATED not in page.read_text(errors="replace")[:300]:
            raise Failure(f"{page} is not generated: it would be overwritten. Name another file with --reference")
    with output(directory) as fresh:
        _write(fresh, config)
    for page, text in texts.items():
        if not page.exists() or page.read_bytes() != text.encode():
            replace_file(page, text)


def check(directory: Path, pages: Path, config: Configuration) -> int:
    """Say which files are not as `synthesize` would write them; 1 if there are some."""
    with TemporaryDirectory() as temporary:
        _write(Path(temporary), config)
        complete(Path(temporary))
        wanted = {directory / name: content for name, content in contents(Path(temporary)).items()}
    present = {directory / name: content for name, content in contents(directory).items()}
    for page, text in _pages(pages).items():
        wanted[page] = text.encode()
        if page.exists():
            present[page] = page.read_bytes()
    differing = sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
    for path in differing:
        click.echo(f"{path} is not as `dask-synth` writes it")
    return 1 if differing else 0


def _write(directory: Path, config: Configuration) -> None:
    with _told():
        write(directory, config)


@contextmanager
def _told() -> Iterator[None]:
    """Tell what constructs find wrong as what it is, a mistake of the user's."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # how jsii passes on what constructs report at synth; and constructs
        raise Failure(str(error)) from None


def _pages(reference_page: Path) -> dict[Path, str]:
    if not reference_page.parent.is_dir():
        return {}
    texts = {
        reference_page.name: reference(),
        "reasons.md": reasons(),
        "concepts.md": concepts(GENERATED),
        "commands.md": reference_of_commands(),
        "keywords.md": keywords(GENERATED),
        "kubectl-dask.md": kubectl_page(GENERATED),
        "permissions.md": permissions(GENERATED),
        "metrics.md": metrics(GENERATED),
    }
    return {reference_page.with_name(name): text for name, text in texts.items()}


def publish(directory: Path, config: Configuration, *, image: str | None, revision: str | None) -> None:
    """Write a release."""
    if image is not None:
        config = msgspec.structs.replace(config, image=image)
    digest = release(directory, config, lock=_LOCK, revision=revision or _commit())
    if "@sha256:" not in config.image:
        click.echo(f"{config.image} has no digest: what runs may be another image one day", err=True)
    click.echo(f"{directory}: {digest}")
    click.echo(f"push it with: oras cp --from-oci-layout {directory}/oci:{VERSION} REGISTRY/REPOSITORY:{VERSION}")


def write_chart(directory: Path, config: Configuration) -> None:
    """Write the Helm chart of the operator."""
    with _told():
        files = chart(config)
    with new_folder(directory) as fresh:
        write_files(fresh, files)


def _commit() -> str | None:
    try:
        return subprocess.check_output(["git", "rev-parse", "HEAD"], text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def initialise(directory: Path) -> None:
    """Write a repository to start from."""
    for path in start(directory):
        click.echo(path)
    click.echo(f"\nGo on with {directory / 'README.md'}")


def print_children(paths: Sequence[str], config: Configuration, *, namespace: str) -> None:
    """Print what the operator would make of the Dask resources in files; nothing if there are mistakes in them."""
    found = read(paths)
    mistakes = [*found.mistakes, *(line for manifest in found.manifests for line in manifest.problems())]
    if mistakes:
        raise Failure("\n".join(mistakes))
    if not found.manifests:
        click.echo(f"no Dask resources in {', '.join(paths)}", err=True)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    for number, manifest in enumerate(found.manifests):
        children = render(
            manifest.value, namespace=namespace, domain=config.cluster_domain, not_inherited=config.not_inherited
        )
        yaml.dump_all(children, sys.stdout, dumper, sort_keys=False, explicit_start=number > 0)


def print_differences(before: str, after: str | None, folder: Path, *, form: str) -> int:
    """Print what becomes of running clusters and jobs when other manifests are applied; how many resources change.

    Mistakes are told of what would be applied. What was not valid before cannot have been applied.
    """
    old, new = manifests(before, folder), manifests(after, folder)
    mistakes = [*new.found.mistakes, *(line for it in new.found.manifests for line in it.problems())]
    if mistakes:
        raise Failure("\n".join(mistakes))
    wrong = {id(it): it.problems() for it in old.found.manifests}
    for line in (*old.found.mistakes, *(line for lines in wrong.values() for line in lines)):
        click.echo(f"{before} is read without what is wrong there: {line}", err=True)
    old.found.manifests[:] = [it for it in old.found.manifests if not wrong[id(it)]]
    report = compared(old.resources, new.resources)
    click.echo(FORMATS[form](report), nl=False)
    return len(report.changes)
