"""What a release consists of, besides the operator's image. Same input, same bytes.

``dask-gitops-<version>.tar.gz``  the manifests
``oci/``                          the same as an OCI image layout, which Argo CD and Flux take from a registry
``crds.yaml``                     the CustomResourceDefinitions alone, for ``cdk8s import``
``dask-operator-<version>.tgz``   the Helm chart
``python/``                       wheel and source, and a recipe for conda-forge
``sbom.cdx.json``                 what the operator's image installs, as CycloneDX
``SHA256SUMS``                    for ``sha256sum --check``
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dask_constructs.operator_pod import VERSION

from .app import write
from .config import Configuration, check_image
from .failure import Failure
from .folders import new_folder, write_files
from .helm import NAME, chart
from .packages import python_packages

#: The layer that both tools accept without being told: the first one of a standard type.
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"
_ARTIFACT = "application/vnd.dask-gitops.manifests.v1"


class ReleaseError(Failure):
    """A release cannot be made; the message says why."""


def release(directory: Path, configuration: Configuration, *, lock: Path, revision: str | None = None) -> str:
    """Write a release: all of it or, whatever goes wrong, nothing.

    Args:
        directory: made if it does not exist.
        configuration: as for ``dist/``; its image is the one that the release installs.
        lock: the pinned requirements of the operator's image.
        revision: of the sources, a commit say.

    Returns:
        The digest of the OCI artifact, ``sha256:...``.

    Raises:
        ConfigurationError: the image's reference is none.
        ReleaseError: there is no such lock, or no tool for the SBOM.
        WriteError: the directory is not empty.
    """
    check_image(configuration.image)
    if not lock.exists():
        raise ReleaseError(f"{lock} does not exist; make the release in a clone of the repository")
    for module, need in (("cyclonedx_py", "the SBOM needs cyclonedx-bom"), ("hatchling", "wheels need hatchling")):
        if importlib.util.find_spec(module) is None:
            raise ReleaseError(f"{need}: pip install 'dask-gitops[release]'")
    with new_folder(directory) as fresh:
        with TemporaryDirectory() as temporary:
            write(Path(temporary), configuration)
            archive = packed(Path(temporary))
            crds = sorted((Path(temporary) / "crds").glob("CustomResourceDefinition.*.yaml"))
            (fresh / "crds.yaml").write_text("---\n".join(path.read_text() for path in crds))
        (fresh / f"dask-gitops-{VERSION}.tar.gz").write_bytes(archive)
        digest = image_layout(fresh / "oci", archive, version=VERSION, revision=revision)
        (fresh / f"{NAME}-{VERSION}.tgz").write_bytes(packed_chart(configuration))
        (fresh / "sbom.cdx.json").write_text(sbom(lock))
        (fresh / "python").mkdir()
        python_packages(lock.resolve().parents[1], fresh / "python")
        files = sorted(path for path in fresh.rglob("*") if path.is_file())
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(fresh)}\n" for path in files]
        (fresh / "SHA256SUMS").write_text("".join(sums))
    return digest


def packed_chart(configuration: Configuration) -> bytes:
    """The Helm chart as ``helm package`` packs it, in a folder of its name."""
    with TemporaryDirectory() as temporary:
        write_files(Path(temporary) / NAME, chart(configuration))
        return packed(Path(temporary))


def packed(folder: Path) -> bytes:
    """A tar.gz of a folder that depends on nothing but names and contents of the files."""
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            entry = tarfile.TarInfo(str(path.relative_to(folder)))
            if path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            else:
                entry.size = path.stat().st_size
                tar.addfile(entry, io.BytesIO(path.read_bytes()))
    return gzip.compress(tarred.getvalue(), mtime=0)


def image_layout(folder: Path, layer: bytes, *, version: str, revision: str | None = None) -> str:
    """An OCI image layout with one artifact; its digest is returned.

    https://github.com/opencontainers/image-spec/blob/main/image-layout.md
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def stored(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    annotations = {
        "org.opencontainers.image.title": "dask-gitops",
        "org.opencontainers.image.version": version,
        **({"org.opencontainers.image.revision": revision} if revision else {}),
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "artifactType": _ARTIFACT,
        "config": stored(b"{}", _EMPTY),
        "layers": [stored(layer, _LAYER)],
        "annotations": annotations,
    }
    descriptor = stored(_json(manifest), _MANIFEST)
    tagged = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": version}}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [tagged]}
    (folder / "index.json").write_bytes(_json(index))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return str(descriptor["digest"])


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sbom(lock: Path) -> str:
    """The pinned requirements as CycloneDX JSON, with their hashes.

    Raises:
        ReleaseError: cyclonedx-bom does not understand the file.
    """
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "requirements",
        "--output-reproducible",
        "--short-PURLs",
        str(lock),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"no SBOM: {done.stderr.strip()}")
    return done.stdout
