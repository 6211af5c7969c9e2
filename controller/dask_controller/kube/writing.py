"""Writing: create, server-side apply, patch, delete; and asking for a review."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .api import ApiError, ApiResource, Manifest, api_version
from .transport import Transport, present

_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML


class Writer(Transport):
    """The half of the client that changes objects."""

    async def create(self, manifest: Mapping[str, Any]) -> Manifest:
        """Create an object; 409 (``AlreadyExists``) if the name is taken, also by an object that is being deleted."""
        resource, namespace, _ = self._located(manifest)
        return await self._call("create", resource, namespace, query=_writer(self._caller.field_manager), body=manifest)

    async def review(self, kind: str, spec: Mapping[str, Any]) -> Manifest:
        """What the API server says of a ``spec``, of a TokenReview or the like: its ``status``."""
        resource = self.kinds[kind]
        body = {"apiVersion": api_version(resource), "kind": kind, "spec": spec}
        answer = await self._call("create", resource, None, body=body)
        return answer.get("status") or {}

    async def apply(
        self,
        manifest: Mapping[str, Any],
        *,
        force: bool = True,
        manager: str | None = None,
        dry_run: bool = False,
    ) -> Manifest:
        """Server-side apply: the object gets these fields, and loses those that ``manager`` applied before.

        It succeeds on an object that is being deleted, too.

        Args:
            manifest: the fields that ``manager`` has an opinion on. With a ``metadata.uid``, it is for that very
                object: else 409 (``Conflict``) if there is none, 422 (``Invalid``) if it is another one.
            force: take fields from other managers; else 409 (``Conflict``).
            manager: who applies; `Caller.field_manager` by default.
            dry_run: change nothing, just be told what it would come to.
        """
        manager = manager or self._caller.field_manager
        return await self._apply(manifest, None, force=force, manager=manager, dry_run=dry_run)

    async def apply_status(self, manifest: Mapping[str, Any]) -> Manifest:
        """Server-side apply to ``/status``; 404 if there is no such object.

        A ``metadata.uid`` is ignored there by the server (for custom resources); ``metadata.resourceVersion`` is
        compared, 409 (``Conflict``).
        """
        return await self._apply(manifest, "status", force=True, manager=self._caller.status_manager)

    async def _apply(
        self,
        manifest: Mapping[str, Any],
        subresource: str | None,
        *,
        force: bool,
        manager: str,
        dry_run: bool = False,
    ) -> Manifest:
        resource, namespace, name = self._located(manifest)
        query = {**_writer(manager), "force": str(force).lower(), **({"dryRun": "All"} if dry_run else {})}
        return await self._call(
            "patch", resource, namespace, name, subresource, query=query, body=manifest, content_type=_APPLY_PATCH
        )

    async def patch(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str | None = None,
    ) -> Manifest:
        """Merge patch (RFC 7396): ``None`` removes a field, lists are replaced.

        With ``metadata.resourceVersion`` in it, it is a compare-and-swap: 409 (``Conflict``).
        """
        query = _writer(self._caller.field_manager)
        return await self._call(
            "patch", self.kinds[kind], namespace, name, subresource, query=query, body=patch, content_type=_MERGE_PATCH
        )

    async def delete(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: str = "Background",
    ) -> Manifest | None:
        """Delete an object, if it is still the one with ``uid`` and ``resource_version`` (else 409, ``Conflict``).

        Returns:
            ``None`` if there is no such object (404). Else what the server answers: the object, which of a Pod may be
            still there with a ``deletionTimestamp``, or a ``Status``.
        """
        preconditions = present(uid=uid, resourceVersion=resource_version)
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            **present(gracePeriodSeconds=grace_seconds, preconditions=preconditions or None),
        }
        try:
            return await self._call("delete", self.kinds[kind], namespace, name, body=options)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _located(self, manifest: Mapping[str, Any]) -> tuple[ApiResource, str | None, str]:
        metadata = manifest["metadata"]
        return self.kinds[manifest["kind"]], metadata.get("namespace"), metadata["name"]


def _writer(manager: str) -> dict[str, str]:
    """Query of a write. Strict: a misspelt field is an error (422 or 400), not dropped in silence."""
    return {"fieldManager": manager, "fieldValidation": "Strict"}
