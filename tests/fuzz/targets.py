"""All targets, and how many cases of the whole each one gets."""

from tests.fuzz import configuration, etcd_answers, lambdas, requests
from tests.fuzz.target import Target

TARGETS: tuple[Target, ...] = (
    *requests.TARGETS,
    *configuration.TARGETS,
    *lambdas.TARGETS,
    *etcd_answers.TARGETS,
)


def shares(cases: int) -> dict[str, int]:
    """How many cases each target is to run, so that they are at least `cases` together."""
    fixed = {target.name: min(target.most, cases) for target in TARGETS if target.most is not None}
    rest = max(0, cases - sum(fixed.values()))
    whole = sum(target.share for target in TARGETS if target.most is None)
    return {target.name: fixed.get(target.name, -(-rest * target.share // whole)) for target in TARGETS}  # rounded up
