"""TLS of a cluster: the certificate that it should have, where the operator makes it, and how encrypted it is."""

from __future__ import annotations

from msgspec.structs import replace

from dask_crds.model import Certificate, Condition
from dask_crds.reasons import Reason
from dask_resources.security import certificates_of, is_generated

from .certificate_life import life_at
from .conditions import condition, find
from .observed import ObservedCluster
from .questions import Encrypted, Encryption
from .time import Time, created, format_time

TYPE = "Encrypted"
#: A certificate that has less time left has not been renewed as it should have been.
EXPIRES_SOON_SECONDS = 7 * 86400.0


def certificate(o: ObservedCluster, now: Time) -> Certificate | None:
    """The certificate that the Secret of a cluster should hold now; ``None`` if none can be made.

    Its CA stays the same for as long as a scheduler or workers live by it. Only when all have gone is it made from
    another key of the operator's. Where the key that it was made from is lost, there is no next certificate.
    """
    if not is_generated(o.cluster) or not o.signing.authorities:
        return None
    before, gone = o.cluster.status.certificate, bool(o.cluster.spec.suspend) and not o.scheduler_pods
    authority = before.authority if before is not None and not gone else o.signing.authorities[0]
    if authority not in o.signing.authorities:
        return None
    life = life_at(now, created(o.cluster.metadata))
    return Certificate(
        secret_name=certificates_of(o.cluster), authority=authority, not_after=format_time(life.not_after)
    )


def is_due(o: ObservedCluster, wanted: Certificate | None) -> bool:
    """Whether that certificate takes the place of another one, or is the first."""
    return wanted is not None and wanted not in (o.cluster.status.certificate, o.signing.certificate)


def encrypted(o: ObservedCluster, now: Time) -> Condition | None:
    """The condition ``Encrypted``: by what the scheduler itself says; ``None`` where nobody has asked for TLS."""
    if not certificates_of(o.cluster):
        return None
    if is_generated(o.cluster) and o.signing.refused and o.cluster.status.certificate is None:
        return condition(
            TYPE, False, Reason.NO_CERTIFICATE, f"the operator cannot make a certificate: {o.signing.refused}"
        )
    said = o.answers.of(Encrypted) if o.answers is not None else None
    if said is not None:
        return _said(o, said, now)
    if o.answers is not None and o.answers.silent:
        return _unknown(Reason.SCHEDULER_SILENT, o.answers.silent)
    if o.answers is not None:
        return _unknown(Reason.PROGRESSING, "the scheduler runs a module that does not tell")
    before = find(o.cluster.status.conditions, TYPE)
    if before is not None and any(pod.uid == o.cluster.status.scheduler_pod_uid for pod in o.scheduler_pods):
        return before  # it is being asked
    needed = f"Secret {certificates_of(o.cluster)} with ca.crt, tls.crt and tls.key"
    return _unknown(Reason.PROGRESSING, f"the scheduler tells as soon as it runs, for which it needs {needed}")


def _unknown(reason: str, message: str) -> Condition:
    return replace(condition(TYPE, False, reason, message), status="Unknown")


def _said(o: ObservedCluster, said: Encryption, now: Time) -> Condition:
    overruled = "variables DASK_DISTRIBUTED__COMM__..., options such as --protocol, or an old template overrule TLS"
    if said.plain_listeners:
        where = ", ".join(said.plain_listeners)
        return condition(TYPE, False, Reason.PLAIN_LISTENER, f"the scheduler accepts plain TCP at {where}: {overruled}")
    if said.plain_workers:
        message = f"{said.plain_workers} worker processes accept plain TCP: {overruled}"
        return condition(TYPE, False, Reason.PLAIN_WORKERS, message)
    if said.not_after is None:
        return condition(TYPE, False, Reason.CERTIFICATE_INVALID, f"the scheduler's certificate: {said.problem}")
    made = o.cluster.status.certificate
    if is_generated(o.cluster) and made is not None and said.authority != made.authority:
        message = f"the scheduler has a certificate that is not the operator's: delete Secret {made.secret_name}"
        return condition(TYPE, False, Reason.CERTIFICATE_INVALID, message)
    expires = f"the certificate expires at {format_time(said.not_after)}"
    if said.not_after - now < EXPIRES_SOON_SECONDS:
        return condition(TYPE, True, Reason.CERTIFICATE_EXPIRES, f"{expires}, and there is no other yet")
    return condition(TYPE, True, Reason.ENCRYPTED, expires)
