"""Which labels and annotations of an object others carry too that are made because of it."""

from __future__ import annotations

from collections.abc import Mapping

from .names import Label

#: Domains in whose keys, and in those of their subdomains, tools note which objects are theirs: they create, compare
#: and prune by them. A child with such a key would be pruned with, or be reported as drift of, what its parent belongs
#: to.
_TOOLS = frozenset(
    {
        "addon.kops.k8s.io",
        "addonmanager.kubernetes.io",  # kubectl apply --prune -l
        "applyset.k8s.io",
        "applyset.kubernetes.io",  # kubectl apply --prune --applyset, kro, Config Sync
        "argocd.argoproj.io",
        "carvel.dev",
        "cattle.io",  # Rancher: objectset.rio, fleet, helm, field
        "cli-utils.sigs.k8s.io",  # kpt, the agent of GitLab
        "cnrm.cloud.google.com",
        "config.k8s.io",  # its owning-inventory: kpt, Config Sync, the agent of GitLab
        "configmanagement.gke.io",  # Config Sync
        "configsync.gke.io",
        "crossplane.io",
        "faros.pusher.com",
        "flux.weave.works",
        "fluxcd.io",
        "garden.io",
        "generate.kyverno.io",
        "harness.io",
        "helm.sh",
        "hnc.x-k8s.io",
        "jenkins-x.io",
        "k14s.io",  # kapp, kbld
        "karmada.io",
        "kluctl.io",
        "kots.io",
        "kpt.dev",
        "krane.shopify.io",
        "kro.run",
        "ksonnet.io",  # kubecfg
        "kubefed.io",
        "kubernetes-fleet.io",
        "metacontroller.k8s.io",
        "oam.dev",  # KubeVela
        "okteto.com",
        "open-cluster-management.io",
        "operatorframework.io",  # OLM
        "operators.coreos.com",
        "pipecd.dev",
        "projectsveltos.io",
        "pulumi.com",
        "qbec.io",
        "resources.gardener.cloud",
        "skaffold.dev",
        "spinnaker.io",
        "tanka.dev",
        "tilt.dev",
        "timoni.sh",
        "werf.io",
    }
)
#: Domains of what is said of one object, and is wrong or untrue of others.
_OF_ONE_OBJECT = frozenset(
    {
        "argoproj.io",  # an Argo Workflow takes Pods with its label for its own
        "config.kubernetes.io",
        "dask.org",
        "kopf.zalando.org",
        "kubectl.kubernetes.io",
        "kueue.x-k8s.io",  # each child with a queue's name would be queued, and held back, by itself
        "kustomize.config.k8s.io",
        "operator-sdk",
        "tekton.dev",
    }
)
#: Where a cluster or job waits for quota.
_OF_QUEUES = (Label.QUEUE, Label.PRIORITY_CLASS)
#: Keys without a domain of such a tool, from the beginning.
_TOOLS_KEYS = ("app.kubernetes.io/instance", "olm.")


def _is_in(key: str, domains: frozenset[str]) -> bool:
    """Whether a key belongs to one of the domains, or to a subdomain of it."""
    domain, slash, _ = key.partition("/")
    while slash and domain:
        if domain in domains:
            return True
        domain = domain.partition(".")[2]
    return False


def is_of_a_tool(key: str) -> bool:
    """Whether a tool notes by a key which objects are its own."""
    return key.startswith(_TOOLS_KEYS) or _is_in(key, _TOOLS)


def is_inherited(key: str) -> bool:
    """Whether children carry a label or annotation of their parent."""
    return key != "app.kubernetes.io/managed-by" and not is_of_a_tool(key) and not _is_in(key, _OF_ONE_OBJECT)


def inherited(keys: Mapping[str, str] | None) -> dict[str, str]:
    """The labels or annotations of a parent that its children carry too.

    All but those by which tools track or queue their own objects. Queues of Pods (Volcano, YuniKorn, KAI) do reach the
    Pods: they are read there and nowhere else.
    """
    return {key: value for key, value in (keys or {}).items() if is_inherited(key)}


def repeated(keys: Mapping[str, str] | None) -> dict[str, str]:
    """The labels or annotations of a template that clusters made from it carry too: what Pods get, and its queue."""
    return {key: value for key, value in (keys or {}).items() if is_inherited(key) or key in _OF_QUEUES}
