"""What can go wrong, each with a stable code, an exit code, whether a retry helps, and what to check next."""

import errno
from typing import ClassVar

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_STILL_RUNNING = 4
EXIT_NO_DAEMON = 5
NODE_ERRORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)


class AgentError(Exception):
    """Base of every error this program raises on purpose.

    `message` says what failed, on what and why; `hint` says what to check next. `code` is the stable slug
    that logs, results and runbooks carry. Caught in the worker and at the command's edge only.
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = EXIT_FAILED
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadInput(AgentError):
    """A wrong argument, request or parameter: the caller has to change it."""

    code = "bad_input"
    exit_code = EXIT_USAGE


class ConfigError(AgentError):
    """The configuration does not hold together; the message lists every problem at once."""

    code = "config_invalid"
    exit_code = EXIT_USAGE


class Refused(AgentError):
    """A safety rule says no. `rule` names it; `hint` says what would make it safe."""

    code = "refused"
    exit_code = EXIT_REFUSED

    def __init__(self, message: str, *, rule: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.rule = rule


class Parked(Refused):
    """A safety rule says no for now, but what asked for the operation still stands: it is to wait and be asked again.

    Of several that wait, those of the lowest `priority` are asked first: 0 for a dead target, 1 for a living one.
    """

    code = "parked"
    exit_code = EXIT_STILL_RUNNING

    def __init__(self, message: str, *, rule: str, hint: str, priority: int = 1) -> None:
        super().__init__(message, rule=rule, hint=hint)
        self.priority = priority


class Cancelled(AgentError):
    """A person asked for its end by `ops cancel`."""

    code = "cancelled"


class AlreadyEnded(AgentError):
    """There is nothing to cancel any more: the operation keeps the result that it has."""

    code = "already_ended"


class NoDaemon(AgentError):
    """Nothing holds the daemon's lock, so nobody will run the request now."""

    code = "no_daemon"
    exit_code = EXIT_NO_DAEMON


class StillRunning(AgentError):
    """The wait ended before the operation did; the operation goes on."""

    code = "still_running"
    exit_code = EXIT_STILL_RUNNING


class CommandFailed(AgentError):
    """A child process ended with an error; `stderr_tail` is the part of its output that says why."""

    code = "command_failed"

    def __init__(self, message: str, *, returncode: int, stderr_tail: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.returncode = returncode
        self.stderr_tail = stderr_tail


class CommandKilled(CommandFailed):
    """A program was killed or had no memory: that says nothing about what it looked at."""

    code = "command_killed"
    retryable = True


class CommandMissing(AgentError):
    """A program we need is not installed where we look for it."""

    code = "command_missing"


class CommandTimeout(AgentError):
    """A child process was killed because its time was over."""

    code = "command_timeout"
    retryable = True


class EtcdError(AgentError):
    """etcd answered with an error that a retry does not cure."""

    code = "etcd_error"


class EtcdUnavailable(EtcdError):
    """etcd did not answer, or has no leader for now: a later try may work."""

    code = "etcd_unavailable"
    retryable = True


class EtcdOutcomeUnknown(EtcdError):
    """The call ended by its time-out: it may or may not have happened. List again before anything else."""

    code = "etcd_outcome_unknown"
    retryable = True


class EtcdAlreadyDone(EtcdError):
    """etcd says that the wanted state is there already (a member that is gone, a learner that votes)."""

    code = "etcd_already_done"


class EtcdAnswerInvalid(EtcdError):
    """etcdctl printed something that is not what its version prints for this command."""

    code = "etcd_answer_invalid"


class SnapshotInvalid(AgentError):
    """A snapshot's bytes do not hold what they claim; it is never listed as a backup."""

    code = "snapshot_invalid"


class ContentDiffers(AgentError):
    """A snapshot, or the member it was taken from, does not hold what another member holds at the same revision."""

    code = "content_differs"


class SnapshotNotFound(AgentError):
    """No manifest matches what was asked for."""

    code = "snapshot_not_found"


class StoreError(AgentError):
    """The store refused or lost a call, and a plain retry does not cure it."""

    code = "store_error"


class AwsRefused(AgentError):
    """An AWS service answered with an error that a plain retry does not cure; `aws_code` is its code."""

    code = "aws_refused"

    def __init__(self, message: str, *, aws_code: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.aws_code = aws_code


class AwsCredentialsUnfit(AwsRefused):
    """AWS does not take this node's credentials now: none yet, expired, or signed by a wrong clock."""

    code = "aws_credentials"
    retryable = True


class AwsUnavailable(AgentError):
    """An AWS service is overloaded or does not answer; a later try may work."""

    code = "aws_unavailable"
    retryable = True


class UploadLimitTooLow(AgentError):
    """At store.upload_limit_bytes_per_s the snapshot does not go within its time: a matter of the configuration."""

    code = "upload_limit_too_low"
    exit_code = EXIT_USAGE


class NoSpace(AgentError):
    """A file system is too full to go on safely."""

    code = "no_space"
    retryable = True


class FileUnusable(AgentError):
    """A file or folder of this node can not be used: rights, a read-only or failing disk."""

    code = "file_unusable"
    retryable = True


class DeadlineExceeded(AgentError):
    """The operation's time was over; its process group was killed."""

    code = "deadline_exceeded"
    retryable = True


class WorkerCrashed(AgentError):
    """The operation's process ended without a result, three times."""

    code = "worker_crashed"
    retryable = True


class KeyTaken(StoreError):
    """Another writer's object lies under the key that we wanted to create."""

    code = "store_key_taken"
    retryable = True


class SpoolFull(AgentError):
    """As many requests wait as may; this one was not taken."""

    code = "spool_full"
    retryable = True


class RootServiceMissing(CommandMissing):
    """What needs root can not be asked for: etcd-agent-root is not installed on this node."""

    code = "root_service_missing"


class RootServiceFailed(AgentError):
    """etcd-agent-root did not answer in time, or could not do what it was asked for."""

    code = "root_service_failed"
    retryable = True


class EtcdProcessUnclear(AgentError):
    """No process, or more than one, is the etcd that the configuration means; `reason` is the stable word for why."""

    code = "etcd_process_unclear"
    retryable = True

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class EtcdToolsMissing(CommandMissing):
    """The running etcd comes without an etcdctl that could be copied."""

    code = "etcd_tools_missing"


class ToolsAltered(AgentError):
    """The copied etcd tools are not the bytes that were pinned; they are not run."""

    code = "tools_altered"


class Interrupted(BaseException):
    """The service is stopping; the operation runs again after the next start.

    Raised by a signal, so at any instruction, that of a library or of a log handler included. Like KeyboardInterrupt
    it is no Exception: what catches those, to go on or to call it another error, must not swallow the stop.
    """


def of_the_node(error: OSError) -> AgentError | None:
    """What the system refused because of this node's state; None where it may as well be a defect of ours."""
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(what, hint="make room on that disk; `df -i` shows whether it is the number of files")
    if error.errno in NODE_ERRORS:
        return FileUnusable(what, hint="is that disk there, sound, and writable by the user of the service?")
    return None


def exit_code_of(code: str) -> int:
    """The exit code that belongs to an error code in a result; 1 for codes of other versions."""
    kinds = [AgentError]
    while kinds:
        kind = kinds.pop()
        if kind.code == code and kind is not AgentError:
            return kind.exit_code
        kinds.extend(kind.__subclasses__())
    return EXIT_FAILED
