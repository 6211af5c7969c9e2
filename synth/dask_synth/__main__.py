"""``python -m dask_synth``: write ``dist/`` and the API reference, or say which files are not up to date."""

from __future__ import annotations

import argparse
import os
import reprlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import yaml

from dask_constructs import problems
from dask_constructs.operator import VERSION
from dask_crds.model import KINDS

from .app import write
from .config import Configuration, ConfigurationError, load
from .init import start
from .output import contents, put
from .reference import reasons, reference
from .release import ReleaseError, release
from .render import render

_CONFIGURATION = Path("synth/config.yaml")
_LOCK = Path("controller/requirements.lock")
_REFERENCE = Path("docs/reference.md")


class Failure(Exception):
    """Something that the user has to mend; the message says what."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 1 if there is something to complain about."""
    options = _parser().parse_args(argv)
    try:
        sys.exit(options.run(options, _configuration(options.config)))
    except (Failure, ConfigurationError, ReleaseError) as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dask_synth",
        description="Write all that derives from the constructs and the typed API: the manifests in dist/, and the "
        f"API reference {_REFERENCE}.",
    )
    parser.set_defaults(run=_synthesize)
    _add_options(parser)
    commands = parser.add_subparsers(metavar="COMMAND")
    render = commands.add_parser(
        "render", help="print the children that the operator would create for the Dask resources in a file"
    )
    render.set_defaults(run=_render)
    render.add_argument("file", type=argparse.FileType(), help="YAML with one or more manifests; - for standard input")
    render.add_argument("--namespace", default="default", help="for manifests that name none (default: %(default)s)")
    publish = commands.add_parser(
        "release", help="write a release: archive and OCI artifact of the manifests, SBOM, checksums"
    )
    publish.set_defaults(run=_release)
    publish.add_argument("directory", type=Path, metavar="DIR", help="where it goes; must be empty")
    publish.add_argument("--image", metavar="REF", help="the operator's image, best name:tag@sha256:...")
    publish.add_argument(
        "--revision", metavar="COMMIT", help="noted in the artifact (default: the commit of the clone)"
    )
    init = commands.add_parser("init", help="write a repository to start from: environments, tenant, clusters, CI")
    init.set_defaults(run=_init)
    init.add_argument("directory", type=Path, metavar="DIR", help="the new repository, or an empty one")
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration (default: {_CONFIGURATION}, if there is one)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path(os.environ.get("CDK8S_OUTDIR", "dist")),
        help="where the manifests go (default: CDK8S_OUTDIR, as set by `cdk8s synth`, else dist)",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        default=_REFERENCE,
        help="where the API reference goes, and the page of reasons beside it, if that folder exists "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; list the files that are not as they would be written"
    )


def _release(options: argparse.Namespace, configuration: Configuration) -> int:
    if options.image is not None:
        configuration = msgspec.structs.replace(configuration, image=options.image)
    if "@sha256:" not in configuration.image:
        print(f"{configuration.image} has no digest: what runs may be another image one day", file=sys.stderr)
    directory: Path = options.directory
    digest = release(directory, configuration, lock=_LOCK, revision=options.revision or _commit())
    print(f"{directory}: {digest}")
    print(f"push it with: oras cp --from-oci-layout {directory}/oci:{VERSION} REGISTRY/REPOSITORY:{VERSION}")
    return 0


def _commit() -> str | None:
    try:
        return subprocess.check_output(["git", "rev-parse", "HEAD"], text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _synthesize(options: argparse.Namespace, configuration: Configuration) -> int:
    """Write or check; the exit status.

    Everything is made in a temporary folder first, so that mistakes leave the old output as it was.
    """
    with TemporaryDirectory() as temporary:
        fresh = Path(temporary)
        try:
            write(fresh, configuration)
        except RuntimeError as error:  # how jsii passes on the errors that constructs report at synth
            raise Failure(str(error)) from None
        wanted = contents(fresh, at=options.output)
    present = contents(options.output, at=options.output)
    if options.reference.parent.is_dir():
        for page, text in ((options.reference, reference()), (options.reference.with_name("reasons.md"), reasons())):
            wanted[page] = text.encode()
            if page.exists():
                present[page] = page.read_bytes()
    differing = sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
    if options.check:
        for path in differing:
            print(f"{path} is not as `python -m dask_synth` writes it")
        return 1 if differing else 0
    if present.keys() - wanted.keys() and options.output / "install.yaml" not in present:
        raise Failure(f"{options.output} holds files of others, which would be deleted: name another folder")
    for path in differing:
        put(path, wanted.get(path))
    return 0


def _init(options: argparse.Namespace, _: Configuration) -> int:
    try:
        written = start(options.directory)
    except OSError as error:
        raise Failure(str(error)) from None
    for path in written:
        print(path)
    print(f"\nGo on with {options.directory / 'README.md'}")
    return 0


def _render(options: argparse.Namespace, configuration: Configuration) -> int:
    documents = [document for document in yaml.safe_load_all(options.file) if document is not None]
    manifests = [manifest for manifest in _unpacked(documents) if manifest.get("kind") in KINDS]
    for manifest in manifests:
        if found := problems(manifest):
            raise Failure("\n".join(f"{manifest['kind']} {line}" for line in found))
    children = [
        child
        for manifest in manifests
        for child in render(
            manifest,
            namespace=options.namespace,
            domain=configuration.cluster_domain,
            not_inherited=configuration.not_inherited,
        )
    ]
    yaml.safe_dump_all(children, sys.stdout, sort_keys=False)
    return 0


def _unpacked(documents: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The manifests, those in a ``kind: List`` as well."""
    for document in documents:
        if not isinstance(document, dict):
            raise Failure(f"not a manifest: {reprlib.repr(document)}")
        if str(document.get("kind")).endswith("List") and "items" in document:
            yield from _unpacked(document["items"] or ())
        else:
            yield document


def _configuration(path: Path | None) -> Configuration:
    if path is None and not _CONFIGURATION.exists():
        return Configuration()
    return load(path or _CONFIGURATION)


if __name__ == "__main__":
    main()
