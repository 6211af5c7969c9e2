"""cert-manager makes the certificates of clusters from what constructs state (security finding 9).

Its objects are judged by its own CRDs. Its controllers, of its own module, are left out unless they have been built,
``python -m tests.cluster cert-manager-controller``: for that the module's 200 dependencies are compiled.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from tests.cluster import ControlPlane
from tests.e2e.support import Kubectl, eventually
from tests.support import cert_manager
from tests.support.constructs import IMAGE, chart, synth

from dask_constructs import DaskCluster, DaskCronJob, DaskJob, Tls

pytestmark = pytest.mark.control_plane

ITS_KINDS = ("Issuer", "Certificate")


@pytest.fixture(scope="module")
def crds(control_plane: ControlPlane) -> Iterator[None]:
    with cert_manager.crds(control_plane):
        yield


@pytest.fixture
def running(control_plane: ControlPlane, namespace: str, crds: None) -> Iterator[None]:
    with cert_manager.controllers(control_plane, namespace):
        yield


def stated(namespace: str) -> list[dict[str, Any]]:
    """Manifests of two clusters."""
    c = chart(namespace=namespace)
    for name in ("one", "two"):
        DaskCluster(c, name, name=name, image=IMAGE, security=Tls.cert_manager())
    return synth(c)


@pytest.mark.usefixtures("crds")
def test_its_api_takes_the_objects_of_each_construct(kubectl: Kubectl) -> None:
    c = chart(namespace=kubectl.namespace)
    options: Any = {"image": IMAGE, "security": Tls.cert_manager(days=30)}
    DaskCluster(c, "cluster", name="cluster", **options)
    DaskJob(c, "job", name="job", command=["x"], **options)
    DaskCronJob(c, "cron", name="cron", schedule="@daily", command=["x"], **options)
    found = [manifest for manifest in synth(c) if manifest["kind"] in ITS_KINDS]
    assert len(found) == 3 * 4
    as_list = json.dumps({"apiVersion": "v1", "kind": "List", "items": found})
    kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=as_list)


class Made:
    """The Secret that cert-manager has made for a cluster."""

    def __init__(self, kubectl: Kubectl, cluster: str) -> None:
        found = kubectl.json("get", "secret", f"{cluster}-tls")
        data = {name: base64.b64decode(content) for name, content in found["data"].items()}
        self.entries = set(data)
        self.chain = x509.load_pem_x509_certificates(data["tls.crt"])
        self.certificate, *self.others = self.chain
        self.authority = x509.load_pem_x509_certificate(data["ca.crt"])
        self.key = load_pem_private_key(data["tls.key"], None)

    @property
    def hosts(self) -> list[str]:
        names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)

    def holds(self, authority: x509.Certificate) -> bool:
        """Whether a client and a server that know this CA believe the certificate, for each of its names."""
        builder = PolicyBuilder().store(Store([authority]))
        try:
            for host in self.hosts:
                builder.build_server_verifier(x509.DNSName(host)).verify(self.certificate, self.others)
            builder.build_client_verifier().verify(self.certificate, self.others)
        except VerificationError:
            return False
        return True


def is_ready(kubectl: Kubectl, name: str) -> bool:
    """Whether all that belongs to a cluster is, with the certificate that is asked for."""
    found = [
        one for kind in ITS_KINDS for one in kubectl.json("get", kind, "-l", f"dask.org/cluster-name={name}")["items"]
    ]
    conditions = [{c["type"]: c["status"] for c in one.get("status", {}).get("conditions", ())} for one in found]
    return len(found) == 4 and all(each.get("Ready") == "True" and "Issuing" not in each for each in conditions)


def renew(kubectl: Kubectl, certificate: str) -> None:
    """As ``cmctl renew`` does."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = kubectl.json("get", "certificate", certificate)["status"]["conditions"]
    issuing = {"type": "Issuing", "status": "True", "reason": "Test", "message": "now", "lastTransitionTime": now}
    status = json.dumps({"status": {"conditions": [*ready, issuing]}})
    kubectl("patch", "certificate", certificate, "--subresource=status", "--type=merge", "-p", status)


@pytest.mark.usefixtures("running")
def test_each_cluster_gets_certificates_that_no_other_believes(kubectl: Kubectl) -> None:
    for manifest in stated(kubectl.namespace):
        kubectl.apply(manifest)
    for name in ("one", "two"):
        eventually(lambda name=name: is_ready(kubectl, name), seconds=120)  # type: ignore[misc]
    one, two = Made(kubectl, "one"), Made(kubectl, "two")
    for name, made in (("one", one), ("two", two)):
        service = f"{name}-scheduler"
        assert made.entries == {"ca.crt", "tls.crt", "tls.key"}
        assert made.hosts == [service, f"{service}.{kubectl.namespace}", f"{service}.{kubectl.namespace}.svc"]
        assert made.key.public_key() == made.certificate.public_key()
        assert made.holds(made.authority)
    assert not one.holds(two.authority)
    assert not two.holds(one.authority)

    # The CA first, as it is when both are due: who has the old certificate and who has the new one are of one cluster.
    for certificate, secret in (("one-ca", "one-ca"), ("one-tls", "one-tls")):
        before = kubectl.json("get", "secret", secret)["data"]["tls.crt"]
        renew(kubectl, certificate)
        eventually(
            lambda secret=secret, before=before: kubectl.json("get", "secret", secret)["data"]["tls.crt"] != before,  # type: ignore[misc]
            seconds=60,
        )
        eventually(lambda: is_ready(kubectl, "one"), seconds=60)
    renewed = Made(kubectl, "one")
    assert renewed.authority.serial_number != one.authority.serial_number
    assert renewed.key.public_key() != one.key.public_key()
    assert one.holds(renewed.authority)
    assert renewed.holds(one.authority)
