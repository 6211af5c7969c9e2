"""How a cluster keeps to itself what its Pods say to one another."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .shared import DNS_NAME, Time, Value, rule, rules

#: What a Secret is stated for, and where it must be.
SECRET_NAME_RULE = rule(
    "(self.mode == 'Secret') == has(self.secretName)", "secretName must be there with mode Secret, and only then"
)


class Tls(Value, frozen=True, kw_only=True):
    """TLS between scheduler, workers, runner and clients. Everybody with a certificate of the CA is let in."""

    mode: Literal["Generated", "Secret"]
    """Where certificates come from. `Generated`: the operator makes and renews them. `Secret`: you do, or cert-manager
    does."""
    secret_name: Annotated[str, Meta(extra_json_schema={"maxLength": 253, "pattern": f"^{DNS_NAME}$"})] | None = None
    """With `Secret`: name of a Secret with `ca.crt`, `tls.crt` and `tls.key`, for client and server. Its CA must be
    this cluster's alone. New content is used without a restart."""


class Security(Value, frozen=True, kw_only=True):
    """How a cluster keeps to itself what its Pods say to one another. A change restarts scheduler and workers."""

    tls: Annotated[Tls | None, Meta(extra_json_schema=rules(SECRET_NAME_RULE))] = None


class Certificate(Value, frozen=True, kw_only=True):
    """The certificate that the operator has made last."""

    secret_name: str
    """Name of the Secret that it is in, with its key and `ca.crt`."""
    authority: str
    """SHA-256 of the certificate of its CA, in hexadecimal digits."""
    not_after: Time
    """When it expires. It is renewed when two thirds of its life have passed."""
