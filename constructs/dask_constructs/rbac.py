"""What the operator and the people who use it may do, as tables: one line per permission, with its reason.

``docs/permissions.md`` is made of them.

A test on a real API server compares the operator's table with the requests that it makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from dask_crds.kinds import DASK_KINDS, KUEUE_GROUP, QUEUES, RESOURCES, REVIEWS, VISIBILITY
from dask_crds.names import MASTER_SECRET

#: API group of Roles and of their bindings.
RBAC_GROUP = "rbac.authorization.k8s.io"
#: That of cert-manager.
CERT_MANAGER_GROUP = "cert-manager.io"


class Permission(NamedTuple):
    """Verbs on kinds of one API group that the operator deals with, or on subresources (``DaskCluster/scale``)."""

    kinds: str
    verbs: str
    reason: str
    names: tuple[str, ...] = ()  #: of the only objects that it is about; empty for all

    @property
    def rule(self) -> dict[str, Any]:
        """As a rule of a Role."""
        parts = [kind.partition("/") for kind in self.kinds.split()]
        (group,) = {_ROWS[kind].group for kind, _, _ in parts}
        return {
            "apiGroups": [group],
            "resources": [f"{_ROWS[kind].plural}{slash}{subresource}" for kind, slash, subresource in parts],
            "verbs": self.verbs.split(),
            **({"resourceNames": list(self.names)} if self.names else {}),
        }


class Other(NamedTuple):
    """Verbs on resources of one API group that are others' business."""

    group: str
    resources: str
    verbs: str
    reason: str

    @property
    def rule(self) -> dict[str, Any]:
        """As a rule of a Role."""
        return {"apiGroups": [self.group], "resources": self.resources.split(), "verbs": self.verbs.split()}


class Path(NamedTuple):
    """Verbs on a path that is no resource."""

    path: str
    verbs: str
    reason: str

    @property
    def rule(self) -> dict[str, Any]:
        """As a rule of a ClusterRole."""
        return {"nonResourceURLs": [self.path], "verbs": self.verbs.split()}


_ROWS = {**RESOURCES, **REVIEWS, **QUEUES, **VISIBILITY}
_READ = "get list watch"
_WRITE = "list watch create patch"  # what is missing is created, what differs is patched by server-side apply
_KINDS = " ".join(DASK_KINDS)
_STATUSES = " ".join(f"{kind}/status" for kind in DASK_KINDS)
_SCALES = " ".join(f"{kind}/scale" for kind, row in DASK_KINDS.items() if row.scale)

#: What the operator needs wherever it looks after Dask resources.
OPERATOR = (
    Permission("DaskCluster", f"get {_WRITE} delete", "clusters of jobs come and go; idle clusters are deleted"),
    Permission("DaskWorkerGroup", f"get {_WRITE} delete", "every cluster has a default group, some have more"),
    Permission("DaskJob", _READ, "they are carried out, never written"),
    Permission("DaskAutoscaler", f"get {_WRITE} delete", "of groups that follow the load; each goes with its cluster"),
    Permission(_STATUSES, "patch", "what has been observed is reported by server-side apply"),
    Permission(
        "Pod", "list watch create patch delete", "workers are Pods of the group, so that it chooses which one goes"
    ),
    Permission("Service ConfigMap", _WRITE, "the scheduler's address, and the module that it loads"),
    Permission("Secret", "create", "the key by which a cluster knows its operator, and certificates; it can read none"),
    Permission("Secret", "delete", "a certificate is renewed by another Secret: to change one is to read it"),
    Permission("Event", "create", "tells in `kubectl describe` what was done and what went wrong"),
    Permission("Event", "list", "why Kubernetes makes no Pod of a Job is told by an event alone"),
    Permission("Deployment", _WRITE, "the scheduler runs in a Deployment"),
    Permission("ReplicaSet", "list watch", "a scheduler's Pod is known by the ReplicaSet of its Deployment"),
    Permission("PodDisruptionBudget", f"{_WRITE} delete", "evictions must not take the scheduler away"),
    Permission("Job", f"{_WRITE} delete", "a DaskJob's program runs in a Job"),
)

#: What it needs in its own namespace, by role.
MASTER_KEY = (
    Permission("Secret", "create", "its own key, from which those of clusters are derived, is made at the first start"),
    Permission("Secret", "get", "the same, by every replica and again when it is renewed", (MASTER_SECRET,)),
)
LEADER_ELECTION = (Permission("Lease", "get create patch", "one replica acts, the others wait for its Lease"),)

#: What it needs where clusters and jobs wait in queues of Kueue.
QUEUE_WORKLOADS = (
    Permission("Workload", f"{_WRITE} delete", "what a cluster asks a queue for, and each worker beyond its base"),
    Permission("Workload/status", "patch", "that Pods are ready, and that quota is given back, is reported there"),
    Permission("LocalQueue/pendingworkloads", "get", "what waits is told its place in line"),
)
#: Likewise; they are cluster-scoped.
QUEUE_CLASSES = (
    Permission("ResourceFlavor", "list watch", "the nodes that quota is for"),
    Permission("WorkloadPriorityClass", "list watch", "the priority of a Workload is a number beside its class"),
)

#: What it needs where its metrics are for those alone who may read them, ``DaskOperator(metrics_tls=...)``.
METRICS_ACCESS = (
    Permission("TokenReview", "create", "whose token it is that comes with a request for metrics"),
    Permission("SubjectAccessReview", "create", "whether that user may get them"),
)
#: What those need who read them.
METRICS_READER = (Path("/metrics", "get", "how the operator does"),)

#: What the activator needs wherever it looks after clusters; and in its own namespace, see ``DaskActivator``.
ACTIVATOR = (
    Permission("DaskCluster", "list watch patch", "`spec.suspend` is set to false when somebody connects"),
    Permission("EndpointSlice", "list watch create delete", "the Service of a sleeping cluster leads to the activator"),
    Permission("Event", "create", "tells who woke a cluster"),
)
ACTIVATOR_ELECTION = (Permission("Lease", "get create patch", "one replica acts, the others wait for its Lease"),)

#: What the Pods of a DaskCronJob need.
JOB_STARTER = (Permission("DaskJob", "create get", "each time is a DaskJob, whose end they wait for"),)

#: Added to the ClusterRole ``view``.
VIEW = (
    Permission(_KINDS, _READ, "see them"),
    Permission(_STATUSES, "get", "see their status, as for the built-in kinds"),
    Permission(_SCALES, "get", "see how many workers are wanted"),
)

#: Added to the ClusterRoles ``edit`` and ``admin``. Who may edit may run Pods in the namespace already, so this gives
#: no more power than they have.
EDIT = (
    Permission(_KINDS, "create update patch delete deletecollection", "own them"),
    Permission(_SCALES, "update patch", "`kubectl scale`, HPA and KEDA go through the subresource"),
)


_EVERY = "create delete deletecollection get list patch update watch"
#: What a team has in its namespace, see ``DaskTenant``. Of the role ``edit`` it lacks what isolates the namespace or
#: opens it: NetworkPolicies, Ingresses, endpoints, ServiceAccounts.
TENANT = (
    *VIEW,
    *EDIT,
    Other("", "configmaps persistentvolumeclaims pods secrets services", _EVERY, "what programs need beside Dask"),
    Other(
        "",
        "pods/attach pods/exec pods/portforward",
        "create get",
        "look into a Pod, reach a scheduler",
    ),
    Other("", "pods/eviction", "create", "move a Pod from its node"),
    Other(
        "", "events limitranges pods/log pods/status resourcequotas serviceaccounts", _READ, "see what happens and why"
    ),
    Other("batch", "cronjobs jobs", _EVERY, "scheduled jobs, and programs that are no Dask"),
    Other("apps", "deployments deployments/scale", _EVERY, "services of their own, a notebook say"),
    Other("apps", "replicasets", _READ, "why a Deployment has no Pod"),
    Other("policy", "poddisruptionbudgets", _READ, "why a Pod is not evicted"),
    Other(KUEUE_GROUP, "localqueues workloads", _READ, "what waits in a queue, and why"),
    Other(CERT_MANAGER_GROUP, "certificates issuers", _EVERY, "certificates of clusters, by cert-manager"),
    Other("networking.k8s.io", "networkpolicies", _READ, "see who may talk to whom, and change nothing about it"),
)

#: What somebody needs who connects to clusters that Git states: ``dask_gitops.connect``. Not the Secrets of clusters
#: that speak TLS, which hold more than credentials: who may forward ports comes in without them.
NOTEBOOK = (
    *VIEW,
    Permission("DaskCluster", "patch", "wake it and suspend it: `spec.suspend`"),
    Permission("DaskWorkerGroup/scale", "patch", "ask for workers"),
    Permission("DaskAutoscaler", "create patch", "let workers follow the load"),
    Permission("Service", "get", "which port of the scheduler's Pod is forwarded"),
    Permission("Pod", "list", "which Pod that is"),
    Other("", "pods/portforward", "create get", "reach scheduler and dashboard from outside of the Kubernetes cluster"),
    Other("", "pods/log", "get", "what a scheduler said that does not stay up"),
    Permission("Event", "list", "what the operator has told of a cluster, in `get_logs`"),
    Other("networking.k8s.io", "ingresses", "list", "under which URL a dashboard is published"),
    Other("gateway.networking.k8s.io", "httproutes", "list", "the same, with Gateway API"),
)


def credentials(secrets: Iterable[str]) -> list[Permission]:
    """What reads the credentials of clusters that speak TLS, and no other Secret."""
    named = tuple(secrets)
    return [Permission("Secret", "get", "their credentials", named)] if named else []


def template_user(template: str) -> list[Permission]:
    """What somebody needs who makes clusters from a template, beside what connecting to them needs.

    RBAC cannot say what is created or whose is deleted. The policies of the template do.
    """
    return [
        Permission("DaskCluster", "use", "by this the policies know who may make clusters from it", (template,)),
        Permission("DaskCluster", "create delete", "make clusters from it, and end one's own"),
    ]


def rules(permissions: Iterable[Permission | Other | Path]) -> list[dict[str, Any]]:
    """The permissions as ``rules`` of a Role or ClusterRole."""
    return [permission.rule for permission in permissions]


class Granted(NamedTuple):
    """What somebody is given, for the page of all permissions."""

    title: str
    to: str
    permissions: tuple[Permission | Other | Path, ...]


#: All that is granted by the constructs.
GRANTED = (
    Granted(
        "dask-operator",
        "The operator: a ClusterRole, or with `namespaces` a Role in each. A policy confines it further: what it "
        "writes must belong to a Dask resource.",
        OPERATOR,
    ),
    Granted("dask-operator-leader-election", "The operator, in its own namespace.", LEADER_ELECTION),
    Granted("dask-operator-master-key", "The operator, in its own namespace.", MASTER_KEY),
    Granted(
        "dask-operator-queues",
        "The operator, for queues of Kueue: a ClusterRole; with `namespaces` a Role in each, and with `queues` alone.",
        QUEUE_WORKLOADS,
    ),
    Granted("dask-operator-queue-classes", "The same, a ClusterRole in any case.", QUEUE_CLASSES),
    Granted("dask-operator-metrics-access", "The operator, with `metrics_tls` alone: a ClusterRole.", METRICS_ACCESS),
    Granted("dask-operator-metrics-reader", "Nobody, until you bind it: a ClusterRole for Prometheus.", METRICS_READER),
    Granted(
        "dask-activator",
        "The activator: a ClusterRole, or with `namespaces` a Role in each. A policy confines it further: to "
        "slices that belong to a cluster, and of clusters to `suspend`.",
        ACTIVATOR,
    ),
    Granted("dask-activator-leader-election", "The activator, in its own namespace.", ACTIVATOR_ELECTION),
    Granted("dask-view", "Who has `view`, `edit` or `admin` in a namespace.", VIEW),
    Granted("dask-edit", "Who has `edit` or `admin` in a namespace.", EDIT),
    Granted("dask-tenant", "The groups of a `DaskTenant`, and its `deployer`, in their namespace.", TENANT),
    Granted(
        "dask-template-name",
        "The `users` of a `DaskClusterTemplate` called `name`, in its namespace. Its policies decide what they create.",
        tuple(template_user("name")),
    ),
    Granted(
        "dask-notebook",
        "The `notebooks` of a `DaskTenant`, in their namespace; a ClusterRole as well, for nobody until you bind it.",
        NOTEBOOK,
    ),
    Granted("dask-job-starter", "Pods of a `DaskCronJob`, in their namespace.", JOB_STARTER),
)
