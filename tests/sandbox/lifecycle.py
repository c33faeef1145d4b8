"""The life of an instance in an Auto Scaling group: states, hooks with their timers. Pure: time is an argument."""

from collections.abc import Callable
from dataclasses import dataclass, replace

LAUNCHING, TERMINATING = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
CONTINUE, ABANDON = "CONTINUE", "ABANDON"
HEARTBEATS_AT_MOST, WAIT_AT_MOST_S = 100, 48 * 3600.0
IN_SERVICE, TERMINATED, RETAINED = "InService", "Terminated", "Terminating:Retained"


@dataclass(frozen=True)
class Hook:
    """A lifecycle hook."""

    name: str
    transition: str = TERMINATING
    heartbeat_timeout_s: int = 3600
    default_result: str = ABANDON

    @property
    def global_timeout_s(self) -> float:
        return min(WAIT_AT_MOST_S, HEARTBEATS_AT_MOST * float(self.heartbeat_timeout_s))


@dataclass(frozen=True)
class Action:
    """One hook that waits for one instance."""

    hook: Hook
    token: str
    started_at: float
    renewed_at: float

    @property
    def expires_at(self) -> float:
        return min(self.renewed_at + self.hook.heartbeat_timeout_s, self.started_at + self.hook.global_timeout_s)


@dataclass(frozen=True)
class Instance:
    """An instance of a group. `ends_at` is when a state that passes by itself does."""

    instance_id: str
    state: str = IN_SERVICE
    zone: str = "us-east-1a"
    actions: tuple[Action, ...] = ()
    ends_at: float | None = None


@dataclass(frozen=True)
class Policy:
    """What a group has decided for its instances' lives."""

    hooks: tuple[Hook, ...] = ()
    retain_on_abandon: bool = False
    shutdown_s: float = 30.0
    listed_after_s: float = 60.0

    def hooks_of(self, transition_name: str) -> tuple[Hook, ...]:
        return tuple(hook for hook in self.hooks if hook.transition == transition_name)


@dataclass(frozen=True)
class Launch:
    """The instance boots."""


@dataclass(frozen=True)
class Terminate:
    """The group is to end the instance."""


@dataclass(frozen=True)
class Heartbeat:
    """A hook's timer starts anew."""

    hook_name: str


@dataclass(frozen=True)
class Complete:
    """A hook ends, by a call or because its time ran out."""

    hook_name: str
    result: str


@dataclass(frozen=True)
class Look:
    """Nothing but time passed."""


Event = Launch | Terminate | Heartbeat | Complete | Look


def transition(
    instance: Instance, event: Event, policy: Policy, now: float, new_token: Callable[[], str]
) -> Instance | None:
    """What an instance is after an event; None when it is gone from the group's list."""
    match event:
        case Launch():
            return _wait(instance, "Pending", policy.hooks_of(LAUNCHING), now, new_token) or _in_service(instance)
        case Terminate():
            if instance.state in ("Terminating", "Terminating:Wait", "Terminating:Proceed", TERMINATED):
                return instance
            hooks = () if instance.state == RETAINED else policy.hooks_of(TERMINATING)
            return _wait(instance, "Terminating", hooks, now, new_token) or _shut_down(
                instance, "Terminating", policy, now
            )
        case Heartbeat(hook_name):
            renewed = (replace(one, renewed_at=now) if one.hook.name == hook_name else one for one in instance.actions)
            return replace(instance, actions=tuple(renewed))
        case Complete(hook_name, result):
            return _completed(instance, hook_name, result, policy, now)
        case Look():
            return _looked_at(instance, policy, now)


def _wait(
    instance: Instance, state: str, hooks: tuple[Hook, ...], now: float, new_token: Callable[[], str]
) -> Instance | None:
    if not hooks:
        return None
    actions = tuple(Action(hook, new_token(), now, now) for hook in hooks)
    return replace(instance, state=f"{state}:Wait", actions=actions, ends_at=None)


def _in_service(instance: Instance) -> Instance:
    return replace(instance, state=IN_SERVICE, actions=(), ends_at=None)


def _shut_down(instance: Instance, state: str, policy: Policy, now: float) -> Instance:
    return replace(instance, state=state, actions=(), ends_at=now + policy.shutdown_s)


def _completed(instance: Instance, hook_name: str, result: str, policy: Policy, now: float) -> Instance:
    left = tuple(one for one in instance.actions if one.hook.name != hook_name)
    if result == CONTINUE and left:
        return replace(instance, actions=left)
    # ABANDON skips the hooks that are left; when terminating it ends the instance just the same, unless it is retained.
    if instance.state == "Pending:Wait":
        return _in_service(instance) if result == CONTINUE else _shut_down(instance, "Terminating", policy, now)
    if result == ABANDON and policy.retain_on_abandon:
        return replace(instance, state=RETAINED, actions=(), ends_at=None)
    return _shut_down(instance, "Terminating:Proceed", policy, now)


def _looked_at(instance: Instance, policy: Policy, now: float) -> Instance | None:
    """Lets everything happen that was due by now, each at its own time."""
    while True:
        due = min(instance.actions, key=lambda one: one.expires_at, default=None)
        if due is not None and due.expires_at <= now:
            instance = _completed(instance, due.hook.name, due.hook.default_result, policy, due.expires_at)
        elif instance.ends_at is not None and instance.ends_at <= now:
            if instance.state == TERMINATED:
                return None
            instance = replace(instance, state=TERMINATED, ends_at=instance.ends_at + policy.listed_after_s)
        else:
            return instance
