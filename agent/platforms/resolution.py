"""The configuration with what the platform says put in where nobody said otherwise."""

from dataclasses import dataclass
from pathlib import Path

from agent import settings
from agent.config import Config, Paths, PlatformChoice
from agent.errors import ConfigError
from agent.platforms import detection
from agent.platforms.detection import Detection
from agent.platforms.finding import CA_CERT, CERT, KEY, KEYS, KUBECONFIG, Trouble
from agent.platforms.reading import SUDO, Reader
from agent.settings import DEFAULT, Loaded


@dataclass(frozen=True)
class Resolved:
    """The whole configuration, the origin of each value, what was found, and what does not hold."""

    loaded: Loaded
    detection: Detection
    troubles: tuple[Trouble, ...]

    @property
    def config(self) -> Config:
        return self.loaded.config


def resolve(loaded: Loaded, paths: Paths) -> Resolved:
    """Looks for the platform. Raises ConfigError: several platforms, or a certificate without its key."""
    found = detection.look(paths.root, loaded.config.platform)
    open_keys = [key for key in KEYS if loaded.origins[key] == DEFAULT]
    troubles: list[Trouble] = []
    if len(found.candidates) > 1:
        error = detection.several(found.candidates, paths.config_file)
        if open_keys not in ([], [KUBECONFIG]):
            raise error
        troubles.append(Trouble(error.message, error.hint))  # nothing of etcd is open, so nothing is guessed
    if found.chosen is None and not troubles:
        troubles += _not_found(found, loaded.config.platform)
    if found.chosen is not None:
        troubles += found.chosen.troubles + _closed_to_this_user(found)
        values = {
            key: (value.text, f"detected ({found.chosen.platform}): {value.why}")
            for key, value in found.chosen.values.items()
            if key in open_keys
        }
        loaded, refused = settings.with_detected(loaded, values)
        troubles += [Trouble(text, "set that key in the configuration") for text in refused]
    if bool(loaded.config.etcd.cert) != bool(loaded.config.etcd.key):
        raise ConfigError(
            f"{CERT} and {KEY}: give both or neither, the platform has no other one",
            hint="`etcd-agent config show` has each value and where it came from",
        )
    return Resolved(loaded, found, tuple(troubles))


def unusable_files(config: Config) -> list[Trouble]:
    """Which of the certificates and keys are missing, or can not be read by this user."""
    reader = Reader(Path("/"))
    etcd = config.etcd
    named = ((CA_CERT, etcd.ca_cert), (CERT, etcd.cert), (KEY, etcd.key), (KUBECONFIG, config.kubernetes.kubeconfig))
    reasons = [(key, reader.may_read(path)) for key, path in named if path]
    return [
        Trouble(f"{key}: {reason}", SUDO if "permission" in reason else f"is it the right file? else set {key}")
        for key, reason in reasons
        if reason
    ]


def _closed_to_this_user(found: Detection) -> tuple[Trouble, ...]:
    """Where another platform could not be looked for: with more rights the answer may be another one."""
    others = [finding for finding in found.findings if finding is not found.chosen]
    return tuple(trouble for finding in others for trouble in finding.troubles if trouble.hint == SUDO)


def _not_found(found: Detection, choice: PlatformChoice) -> list[Trouble]:
    """What stopped the looks; and with a chosen platform, that it is not here."""
    troubles = [trouble for finding in found.findings for trouble in finding.troubles]
    if choice != detection.AUTO:
        reason = found.findings[0].reason
        troubles.append(
            Trouble(f'platform = "{choice}" is configured, and is not here: {reason}', "is it the right one?")
        )
    return troubles
