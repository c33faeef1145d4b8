"""Which platform this node is, out of what each one finds of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config import PlatformChoice, PlatformName
from agent.errors import ConfigError
from agent.platforms import k3s, kubeadm, plain, rke2
from agent.platforms.finding import LIKELY, SURE, Finding
from agent.platforms.reading import Reader

AUTO = "auto"
PLATFORMS: Mapping[PlatformName, Callable[[Reader], Finding]] = {
    "kubeadm": kubeadm.look,
    "rke2": rke2.look,
    "k3s": k3s.look,
    "plain": plain.look,
}


@dataclass(frozen=True)
class Detection:
    """What each platform that was looked for says, and which of them this node may be."""

    findings: tuple[Finding, ...]
    candidates: tuple[Finding, ...]

    @property
    def chosen(self) -> Finding | None:
        """The one platform that counts; None when there is none, or when several might be meant."""
        return self.candidates[0] if len(self.candidates) == 1 else None


def look(root: Path, choice: PlatformChoice) -> Detection:
    """Asks the chosen platform, or with `auto` each of them. Reads small files below the root and starts nothing."""
    return decide([find(Reader(root)) for name, find in PLATFORMS.items() if choice in (AUTO, name)])


def decide(findings: Sequence[Finding]) -> Detection:
    """The candidates are those that are surely there; only where there is none, those that likely are."""
    for certainty in (SURE, LIKELY):
        if candidates := tuple(finding for finding in findings if finding.certainty == certainty):
            return Detection(tuple(findings), candidates)
    return Detection(tuple(findings), ())


def several(candidates: Sequence[Finding], config_file: Path) -> ConfigError:
    """What to say where more than one might be meant: nothing is guessed."""
    listed = "\n".join(f"  - {finding.platform}: {finding.reason}" for finding in candidates)
    lines = " or ".join(f'platform = "{finding.platform}"' for finding in candidates)
    return ConfigError(
        f"this node has the etcd of {len(candidates)} platforms:\n{listed}",
        hint=f"write the one that is meant into {config_file}, above its first [table]: {lines}",
    )
