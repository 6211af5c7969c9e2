"""Why the API server refused to make something, from the words that the operator passes on."""

from __future__ import annotations

import re

from dask_crds.reasons import Reason

from .facts import at, name_of, plain
from .seen import Seen

#: Words of the API server and its admission plugins, and the reason that tells what to do. The first that fits counts.
#: https://github.com/kubernetes/kubernetes/tree/master/plugin/pkg/admission
_WORDS = (
    (r"exceeded quota:", Reason.QUOTA_EXCEEDED),
    (r"failed quota: .*must specify", "QuotaNeedsAmounts"),
    (r"violates PodSecurity", "PodSecurity"),
    (r"failed calling webhook", "WebhookFailed"),
    (r"admission webhook .* denied|ValidatingAdmissionPolicy .* denied|denied the request", "PolicyRefused"),
    (r"(maximum|minimum) .* usage per (Container|Pod)|must be less than or equal to .* limit", "LimitRangeExceeded"),
    (r"serviceaccount \"[^\"]*\" not found", "ServiceAccountNotFound"),
)
_QUOTA = re.compile(r"exceeded quota: ([^,\s]+)")


def refined(reason: str, words: str) -> str:
    """The reason of a refusal that tells what to do; the one that was given where none is better."""
    return next((better for pattern, better in _WORDS if re.search(pattern, words)), reason)


def with_quota(words: str, seen: Seen) -> str:
    """The words, with what the quota that they name has left now."""
    named = _QUOTA.search(words)
    quota = next((q for q in seen.quotas if named and name_of(q) == named[1]), None)
    hard, used = at(quota, "status", "hard"), at(quota, "status", "used")
    if not isinstance(hard, dict) or not isinstance(used, dict):
        return words
    now = ", ".join(f"{key} {used.get(key, 0)} of {most}" for key, most in sorted(hard.items()))
    return plain(f"{words} (used now: {now})")
