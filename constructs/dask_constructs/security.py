"""TLS of a cluster: where its certificates come from, and the objects by which cert-manager makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from constructs import Construct

from dask_crds import model, names

from .keywords import Plain
from .manifest import api_object
from .rbac import CERT_MANAGER_GROUP
from .values import Named, reference

#: Kinds of it that a cluster with ``Tls.cert_manager`` needs.
CERT_MANAGER_KINDS = ("Issuer", "Certificate")
#: Days that the certificate of a cluster's CA lasts. It is renewed with the same key, so nobody notices.
_CA_DAYS = 3650

_Source = Literal["cert-manager", "secret", "operator"]


@dataclass(frozen=True)
class Tls:
    """Where the certificates come from by which scheduler, workers, runner and clients speak TLS.

    >>> DaskCluster(chart, "c", image="ghcr.io/dask/dask:2026.8.0", security=Tls.cert_manager())

    Use the class methods. Whoever has a certificate of the same CA is let in, so each cluster has its own.

    Attributes:
        source: who makes them.
        secret_name: the Secret with ``ca.crt``, ``tls.crt`` and ``tls.key``, where it is yours.
        days: how long one is valid, where cert-manager makes it; a new one comes when two thirds have passed.
        given: the Secret itself, where it was handed in.
    """

    source: _Source
    secret_name: str | None = None
    days: int = 90
    given: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def cert_manager(cls, *, days: int = 90) -> Tls:
        """cert-manager (https://cert-manager.io) makes and renews them, by objects beside the cluster's."""
        return cls("cert-manager", days=days)

    @classmethod
    def secret(cls, secret: str | Named) -> Tls:
        """They are in a Secret with ``ca.crt``, ``tls.crt`` and ``tls.key``, whose CA is for this cluster alone."""
        name: Any = getattr(secret, "name", secret)
        return cls("secret", name, given=secret)

    @classmethod
    def generated(cls) -> Tls:
        """The operator makes and renews them: where there is no cert-manager."""
        return cls("operator")


def _tls(given: object) -> Tls:
    if not isinstance(given, Tls):
        raise ValueError(f"must be Tls.cert_manager(), Tls.secret(...) or Tls.generated(), not {given!r}")
    if given.source not in get_args(_Source):
        sources = ", ".join(map(repr, get_args(_Source)))
        raise ValueError(f"source must be one of {sources}, not {given.source!r}")
    if given.source != "secret":
        if given.secret_name is not None:
            raise ValueError(f"secret_name says nothing beside source={given.source!r}")
    elif not (isinstance(given.secret_name, str) and given.secret_name):
        raise ValueError(f"must name a Secret, not {given.secret_name!r}")
    reference("Secret").read(given.given)
    if isinstance(given.days, bool) or not isinstance(given.days, int) or not 1 <= given.days <= _CA_DAYS // 2:
        raise ValueError(f"days must be a whole number from 1 to {_CA_DAYS // 2}, not {given.days!r}")
    return given


#: Keyword argument of what has a cluster.
Security = Annotated[Tls, Plain(Any, "Tls.cert_manager(), Tls.secret(...) or Tls.generated()", _tls)]


def stated(tls: Tls | None, name: str) -> model.Security | None:
    """What the spec of a cluster says, whose certificates are named after ``name``."""
    if tls is None:
        return None
    if tls.source == "operator":
        return model.Security(tls=model.Tls(mode="Generated"))
    return model.Security(tls=model.Tls(mode="Secret", secret_name=tls.secret_name or _secret(name)))


def _secret(name: str) -> str:
    return f"{name}-tls"


def add_certificates(scope: Construct, tls: Tls | None, name: str, namespace: str | None) -> None:
    """The objects of cert-manager for a cluster, if that is who makes its certificates.

    The self-signed CA is this cluster's own: by one that others have certificates of, these would be let in.
    """
    if tls is None or tls.source != "cert-manager":
        return
    authority, service = f"{name}-ca", names.scheduler(name)
    hosts = [service, *([f"{service}.{namespace}", f"{service}.{namespace}.svc"] if namespace else [])]
    bodies: dict[str, tuple[str, str, dict[str, Any]]] = {
        "self-signed": ("Issuer", f"{name}-self-signed", {"selfSigned": {}}),
        "ca": (
            "Certificate",
            authority,
            {
                **_certificate(authority, f"{name}-self-signed", _CA_DAYS, authority),
                "isCA": True,
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
            },
        ),
        "ca-issuer": ("Issuer", authority, {"ca": {"secretName": authority}}),
        "certificate": (
            "Certificate",
            _secret(name),
            {
                **_certificate(_secret(name), authority, tls.days, name),
                "dnsNames": hosts,
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
                "usages": ["digital signature", "server auth", "client auth"],
            },
        ),
    }
    for id, (kind, called, spec) in bodies.items():
        metadata = {"name": called, "labels": {names.Label.CLUSTER: name}}
        metadata |= {"namespace": namespace} if namespace else {}
        manifest = {"apiVersion": f"{CERT_MANAGER_GROUP}/v1", "kind": kind, "metadata": metadata, "spec": spec}
        api_object(scope, f"tls-{id}", manifest)


def _certificate(secret: str, issuer: str, days: int, common_name: str) -> dict[str, Any]:
    return {
        "secretName": secret,
        "commonName": common_name,
        "duration": f"{24 * days}h",
        "renewBefore": f"{8 * days}h",
        "issuerRef": {"name": issuer, "kind": "Issuer", "group": CERT_MANAGER_GROUP},
    }
