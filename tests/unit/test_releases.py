"""Programs are downloaded from a server that is laid out as those of their projects, and nothing else is taken."""

from __future__ import annotations

import hashlib
import io
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.cluster import Unavailable, components, images, machine, modules, releases
from tests.cluster.processes import free_port
from tests.support.clusters import or_skip

_K8S = "dl.k8s.io/release/v1.37.2/bin/linux/amd64"
_CONTAINERD = "github.com/containerd/containerd/releases/download/v2.4.2/containerd-static-2.4.2-linux-amd64.tar.gz"
_KUSTOMIZE = "github.com/kubernetes-sigs/kustomize/releases/download/kustomize%2Fv5.8.2"
_CRANE = "github.com/google/go-containerregistry/releases/download/v0.22.1"
#: Program -> its file, the file of checksums beside it, and the program's path in an archive.
PUBLISHED = {
    "kube-apiserver": (f"{_K8S}/kube-apiserver", "kube-apiserver.sha256", ""),
    "kubelet": (f"{_K8S}/kubelet", "kubelet.sha256", ""),
    "etcd": (
        "github.com/etcd-io/etcd/releases/download/v3.7.3/etcd-v3.7.3-linux-amd64.tar.gz",
        "SHA256SUMS",
        "etcd-v3.7.3-linux-amd64/etcd",
    ),
    "containerd": (_CONTAINERD, "containerd-static-2.4.2-linux-amd64.tar.gz.sha256sum", "bin/containerd"),
    "runc": ("github.com/opencontainers/runc/releases/download/v1.5.2/runc.amd64", "runc.sha256sum", ""),
    "kustomize": (f"{_KUSTOMIZE}/kustomize_v5.8.2_linux_amd64.tar.gz", "checksums.txt", "kustomize"),
    "kubeconform": (
        "github.com/yannh/kubeconform/releases/download/v0.8.0/kubeconform-linux-amd64.tar.gz",
        "CHECKSUMS",
        "kubeconform",
    ),
    "kube-score": (
        "github.com/zegl/kube-score/releases/download/v1.20.0/kube-score_1.20.0_linux_amd64.tar.gz",
        "checksums.txt",
        "kube-score",
    ),
    "crane": (f"{_CRANE}/go-containerregistry_Linux_x86_64.tar.gz", "checksums.txt", "crane"),
    "flux": (
        "github.com/fluxcd/flux2/releases/download/v2.9.5/flux_2.9.5_linux_amd64.tar.gz",
        "flux_2.9.5_checksums.txt",
        "flux",
    ),
    "actionlint": (
        "github.com/rhysd/actionlint/releases/download/v1.7.12/actionlint_1.7.12_linux_amd64.tar.gz",
        "actionlint_1.7.12_checksums.txt",
        "actionlint",
    ),
}


class Server:
    """Serves files by the paths of real URLs, ``https://`` left out; cuts those that it is told to."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.removeprefix("/")
                content = server.files.get(path)
                if content is None:
                    return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if path in server.cut else content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.scheme = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def publish(self, name: str) -> bytes:
        """Offer a program as its project does; gives the program."""
        path, sums, member = PUBLISHED[name]
        program = f"the program {name}".encode()
        content = _archive(member, program) if member else program
        folder, _, file = path.rpartition("/")
        digest = hashlib.sha256(content).hexdigest()
        self.files[path] = content
        self.files[f"{folder}/{sums}"] = f"{'0' * 64}  other\n{digest}  {file}\n".encode()
        if sums == f"{name}.sha256":
            self.files[f"{folder}/{sums}"] = digest.encode()
        return program

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _archive(member: str, content: bytes) -> bytes:
    """An archive with a program, and others beside it where there are some."""
    packed = io.BytesIO()
    others = ("bin/containerd-shim-runc-v2", "bin/ctr") if member == "bin/containerd" else ()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in (member, *others):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture(scope="module")
def crane() -> Path:
    with or_skip("crane"):
        return components.ensure(["crane"])["crane"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server in place of all others, an empty cache, and a machine of a known kind."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.delenv(releases.VARIABLE, raising=False)
    for module in (machine, modules, images):
        monkeypatch.setattr(module, "CACHE", tmp_path)
    monkeypatch.setattr(releases, "ARCHITECTURE", "amd64")
    server = Server()
    monkeypatch.setattr(releases, "SCHEME", server.scheme)
    releases._silence.cache_clear()
    yield server
    releases._silence.cache_clear()
    server.stop()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs that were built instead; an empty file is what comes out."""
    names: list[str] = []

    def build(name: str, position: str) -> None:
        target = modules.module_of(name).folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(0o755)
        names.append(name)

    monkeypatch.setattr(components, "build", build)
    return names


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_program_comes_from_its_projects_release(name: str, server: Server, built: list[str]) -> None:
    program = server.publish(name)
    (path,) = components.ensure([name]).values()
    assert path.read_bytes() == program
    assert path.stat().st_mode & 0o111
    assert name in {file.name for file in path.parent.iterdir()} <= set(modules.NODE) | {name}
    assert not built


def test_an_archive_is_downloaded_once_for_all_its_programs(server: Server, built: list[str]) -> None:
    server.publish("containerd")
    components.ensure(["ctr"])
    server.files.clear()
    assert len(components.ensure(["containerd", "containerd-shim-runc-v2", "ctr"])) == 3
    assert not built


def test_all_that_the_demo_needs_is_published() -> None:
    assert all(modules.module_of(name).release for name in (*modules.NODE, "crane"))


def test_a_wrong_checksum_is_refused(server: Server, built: list[str]) -> None:
    server.publish("etcd")
    path = PUBLISHED["etcd"][0]
    server.files[path] += b"more"
    with pytest.raises(releases.Refused, match=f"{path} is refused: its SHA-256 is [0-9a-f]{{64}}, and SHA256SUMS"):
        components.ensure(["etcd"])
    assert components.find("etcd") is None
    assert not list(modules.module_of("etcd").folder.iterdir())
    assert not built


def test_a_truncated_download_is_refused(server: Server, built: list[str]) -> None:
    server.publish("kubelet")
    server.cut.add(PUBLISHED["kubelet"][0])
    with pytest.raises(releases.Refused, match=r"bin/linux/amd64/kubelet is refused: it broke off \("):
        components.ensure(["kubelet"])
    assert components.find("kubelet") is None
    assert not built


def test_what_cannot_be_reached_is_built(
    server: Server, built: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(releases, "SCHEME", f"http://127.0.0.1:{free_port()}/")
    components.ensure(["kubelet", "kubectl", "runc"])
    assert built == ["kubelet", "kubectl", "runc"]
    told = [line for line in capsys.readouterr().err.splitlines() if "cannot be reached" in line]
    assert [line.split()[1] for line in told] == ["dl.k8s.io", "github.com"]  # once each


@pytest.mark.parametrize("lacking", [0, 1], ids=["the file", "its checksum"])
def test_what_a_release_lacks_is_built(
    lacking: int, server: Server, built: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.publish("runc")
    folder, file = PUBLISHED["runc"][0].rsplit("/", 1)
    lost = f"{folder}/{(file, PUBLISHED['runc'][1])[lacking]}"
    del server.files[lost]
    components.ensure(["runc"])
    assert built == ["runc"]
    assert f"{lost} cannot be had (404 Not Found): built instead" in capsys.readouterr().err


def test_the_environment_may_ask_for_building(
    server: Server, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish("runc")
    monkeypatch.setenv(releases.VARIABLE, "build")
    components.ensure(["runc"])
    assert built == ["runc"]


def test_the_environment_may_insist_on_downloading(
    server: Server, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(releases.VARIABLE, "download")
    with pytest.raises(Unavailable, match=r"runc\.sha256sum cannot be had \(404 Not Found\)"):
        components.ensure(["runc"])
    monkeypatch.setattr(releases, "SCHEME", f"http://127.0.0.1:{free_port()}/")
    releases._silence.cache_clear()
    with pytest.raises(Unavailable, match=r"github\.com cannot be reached .*, and DASK_GITOPS_PROGRAMS is `download`"):
        components.ensure(["runc"])
    monkeypatch.setenv(releases.VARIABLE, "downlaod")
    with pytest.raises(Unavailable, match="can be `download` or `build`"):
        components.ensure(["runc"])
    assert not built


def _until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_an_image_is_pulled_where_its_registry_answers(
    crane: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(images, "ensure", lambda names: dict.fromkeys(names, crane))
    monkeypatch.setattr(releases, "SCHEME", "http://")
    port = free_port()
    reference = f"127.0.0.1:{port}/dask/dask:1"
    assert images.pulled(reference) is None
    assert "cannot be reached" in capsys.readouterr().err

    releases._silence.cache_clear()
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "file").write_text("content")
    images.pack(tmp_path / "made.tar", reference, [tmp_path / "layer"])
    with subprocess.Popen(
        [crane, "registry", "serve", "--address", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as registry:
        try:
            _until_it_listens(port)
            assert images.pulled(f"{reference}23") is None
            assert "made here instead" in capsys.readouterr().err
            subprocess.run([crane, "push", tmp_path / "made.tar", reference], check=True, capture_output=True)
            archive = images.pulled(reference)
        finally:
            registry.kill()
    assert archive is not None
    with tarfile.open(archive) as tar:
        assert f'"RepoTags":["{reference}"]' in tar.extractfile("manifest.json").read().decode()
    assert images.pulled(reference) == archive  # without the registry
