"""All targets, and how many cases of the whole each one gets."""

from tests.fuzz import (
    commands,
    configuration,
    daemon,
    etcd_answers,
    lambdas,
    log_lines,
    platform_files,
    requests,
    spool_views,
    store,
    traces,
)
from tests.fuzz.target import Target

TARGETS: tuple[Target, ...] = (
    *requests.TARGETS,
    *daemon.TARGETS,
    *configuration.TARGETS,
    *lambdas.TARGETS,
    *etcd_answers.TARGETS,
    *store.TARGETS,
    *traces.TARGETS,
    *commands.TARGETS,
    *spool_views.TARGETS,
    *log_lines.TARGETS,
    *platform_files.TARGETS,
)


def shares(cases: int) -> dict[str, int]:
    """How many cases each target is to run, so that they are at least `cases` together."""
    fixed = {target.name: min(target.most, cases) for target in TARGETS if target.most is not None}
    rest = max(0, cases - sum(fixed.values()))
    whole = sum(target.share for target in TARGETS if target.most is None)
    return {target.name: fixed.get(target.name, -(-rest * target.share // whole)) for target in TARGETS}  # rounded up
