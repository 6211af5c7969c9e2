"""The fields of a Pod that are read; nothing else of one is decoded."""

from __future__ import annotations

from typing import Any, TypedDict


class _Ending(TypedDict, total=False):
    exitCode: int
    reason: str
    message: str
    startedAt: str | None
    finishedAt: str | None


class _State(TypedDict, total=False):
    waiting: _Ending | None
    running: dict[str, Any] | None
    terminated: _Ending | None


class _ContainerStatus(TypedDict, total=False):
    name: str
    restartCount: int
    state: _State | None
    lastState: _State | None


class _PodCondition(TypedDict, total=False):
    type: str
    status: str
    reason: str
    message: str
    lastTransitionTime: str | None


class _Address(TypedDict, total=False):
    ip: str


class _PodStatus(TypedDict, total=False):
    phase: str
    reason: str
    message: str
    podIP: str
    podIPs: list[_Address] | None
    hostIPs: list[_Address] | None
    startTime: str | None
    conditions: list[_PodCondition] | None
    initContainerStatuses: list[_ContainerStatus] | None
    containerStatuses: list[_ContainerStatus] | None


class _Port(TypedDict, total=False):
    name: str
    containerPort: int


#: Quantities, which are text as a rule.
_Amounts = dict[str, str | int | float]


class _Resources(TypedDict, total=False):
    requests: _Amounts | None


class _Container(TypedDict, total=False):
    name: str
    ports: list[_Port] | None
    resources: _Resources | None


class _InitContainer(TypedDict, total=False):
    restartPolicy: str | None
    resources: _Resources | None


class _Gate(TypedDict, total=False):
    name: str


class _PodSpec(TypedDict, total=False):
    schedulingGates: list[_Gate] | None
    containers: list[_Container]
    initContainers: list[_InitContainer] | None
    resources: _Resources | None
    overhead: _Amounts | None
    hostNetwork: bool | None
    restartPolicy: str


class Owner(TypedDict, total=False):
    """The fields of an owner reference."""

    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool | None
    blockOwnerDeletion: bool | None


class Metadata(TypedDict, total=False):
    """The fields of ``metadata`` that are read."""

    name: str
    namespace: str
    uid: str
    resourceVersion: str
    generation: int
    creationTimestamp: str | None
    deletionTimestamp: str | None
    labels: dict[str, str] | None
    annotations: dict[str, str] | None
    ownerReferences: list[Owner] | None


class PodForm(TypedDict, total=False):
    """The fields of a Pod that are read."""

    kind: str
    metadata: Metadata
    spec: _PodSpec
    status: _PodStatus | None
