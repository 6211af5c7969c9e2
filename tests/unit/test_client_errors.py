"""What refusals of the API server mean to the user."""

from __future__ import annotations

import pytest

from dask_gitops.errors import MissingRight, NoSuchCluster, Refused, Unreachable, near_names, refusal

USER = 'User "system:serviceaccount:lab:ada"'


def refused(status: int, message: str) -> Exception:
    return refusal(
        status, message, verb="patch", resource="daskclusters.kubernetes.dask.org", namespace="lab", name="a"
    )


def test_a_missing_right_is_named_as_the_api_server_names_it():
    error = refused(
        403,
        f'pods "a-scheduler-0" is forbidden: {USER} cannot create resource "pods/portforward" in API group "" '
        'in the namespace "lab"',
    )
    assert isinstance(error, MissingRight)
    assert (error.verb, error.resource, error.namespace) == ("create", "pods/portforward", "lab")
    assert error.user == "system:serviceaccount:lab:ada"
    assert "dask-notebook" in str(error)


def test_groups_stand_between_kind_and_subresource():
    error = refused(
        403,
        f'daskworkergroups.kubernetes.dask.org "a-default" is forbidden: {USER} cannot patch resource '
        '"daskworkergroups/scale" in API group "kubernetes.dask.org" in the namespace "lab"',
    )
    assert isinstance(error, MissingRight)
    assert error.resource == "daskworkergroups.kubernetes.dask.org/scale"


def test_a_right_to_all_namespaces_says_so():
    error = refused(
        403,
        f'daskclusters is forbidden: {USER} cannot list resource "daskclusters" in API group "" at the cluster scope',
    )
    assert isinstance(error, MissingRight)
    assert error.namespace == ""
    assert "in the whole cluster" in str(error)


@pytest.mark.parametrize(
    "message",
    [
        "daskautoscalers.kubernetes.dask.org is forbidden: exceeded quota: quota, requested: pods=1, used: pods=2",
        "daskclusters.kubernetes.dask.org \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied "
        "request: at most 20 workers",
        'admission webhook "validate.kyverno.svc-fail" denied the request: images of docker.io are forbidden',
        'daskclusters.kubernetes.dask.org "a" is forbidden: unable to create new content in namespace lab because it '
        "is being terminated",
        'daskclusters.kubernetes.dask.org "a" is forbidden: not yet ready to handle request',
    ],
)
def test_quotas_and_policies_are_no_missing_rights(message):
    error = refused(403, message)
    assert isinstance(error, Refused)
    assert str(error) == message


def test_others():
    assert isinstance(refused(401, "Unauthorized"), Unreachable)
    invalid = refused(422, "spec.minimum: must not be negative")
    assert isinstance(invalid, Refused)
    assert invalid.status == 422
    plain = refused(403, "Forbidden")
    assert isinstance(plain, MissingRight)
    assert (plain.verb, plain.resource) == ("patch", "daskclusters.kubernetes.dask.org")


def test_near_names_come_nearest_first():
    there = ["analytics", "analytics-gpu", "etl", "reports"]
    assert near_names("analitics", there)[0] == "analytics"
    assert near_names("gpu", there) == ["analytics-gpu"]
    assert near_names("zzz", there) == []
    assert near_names("x", []) == []


def test_what_is_there_is_told_where_nothing_is_near():
    assert "did you mean analytics?" in str(NoSuchCluster("DaskCluster", "analytic", "lab", ["analytics", "etl"]))
    assert "there are etl, reports" in str(NoSuchCluster("DaskCluster", "zzz", "lab", ["reports", "etl"]))
    assert "no other either" in str(NoSuchCluster("DaskCluster", "zzz", "lab"))
    many = str(NoSuchCluster("DaskCluster", "zzz", "lab", [f"c{n}" for n in range(30)]))
    assert "and 20 more" in many
