"""SSM documents as Run Command and the agent treat them: parameters are checked, then put into the script's text.

Kept is what a document with one `aws:runShellScript` step can hold; anything else is refused and never ignored.
"""

import enum
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tests.sandbox.aws_protocol import AwsError

SIZE_LIMIT_BYTES = 64 * 1024
TIMEOUT_RANGE_S, DEFAULT_TIMEOUT_S = range(5, 172801), 3600
NAME = re.compile(r"[a-zA-Z0-9]+")
DOCUMENT_KEYS = {"schemaVersion", "description", "parameters", "mainSteps"}
PARAMETER_KEYS = {
    "type", "description", "default", "allowedValues", "allowedPattern", "displayType", "minItems", "maxItems",
    "minChars", "maxChars", "interpolationType",
}  # fmt: skip
STEP_KEYS = {"action", "name", "precondition", "inputs"}
INPUT_KEYS = {"runCommand", "timeoutSeconds", "workingDirectory"}
ON_LINUX = ["platformType", "Linux"]
# What Java or Python understand and RE2, with which the agent checks again, does not.
NOT_RE2 = re.compile(r"\(\?(?:[=!]|<[=!])|\\[1-9Z]")
PATTERN_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
GO_TEMPLATE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")
Value = str | list[str]


class AgentKind(enum.Enum):
    """What an SSM agent does with a parameter of `interpolationType: ENV_VAR`."""

    OLD = "knows no ENV_VAR: replaces the placeholder, sets no variable"
    NEW = "sets the variable, leaves the placeholder as it stands"
    NEW_REPLACING = "sets the variable and replaces the placeholder"


@dataclass(frozen=True)
class Parameter:
    """A declared parameter; `is_variable` when it comes by the environment."""

    name: str
    type: str
    default: Value | None
    limits: Mapping[str, Any]
    is_variable: bool

    def value(self, given: Sequence[str]) -> Value:
        """The given strings as the parameter's value. Raises AwsError."""
        if self.type == "String" and len(given) != 1:
            raise _bad_parameters(f"{self.name} takes one value, not {len(given)}")
        for text in given:
            self._check(text)
        if not self.limits.get("minItems", 0) <= len(given) <= self.limits.get("maxItems", len(given)):
            raise _bad_parameters(f"{self.name} has too few or too many values")
        return given[0] if self.type == "String" else list(given)

    def _check(self, text: str) -> None:
        allowed = self.limits.get("allowedValues")
        if allowed is not None and text not in allowed:
            raise _bad_parameters(f"{self.name} is not one of {allowed}")
        pattern = self.limits.get("allowedPattern")
        if pattern is not None and not go_pattern(pattern).search(text):
            raise _bad_parameters(f"{self.name} does not match {pattern}")
        if not self.limits.get("minChars", 0) <= len(text) <= self.limits.get("maxChars", len(text)):
            raise _bad_parameters(f"{self.name} is too short or too long")


@dataclass(frozen=True)
class Prepared:
    """What one run of a document is: the script's text, the parameters' variables, the rest of the step."""

    script: str
    variables: Mapping[str, str]
    working_directory: str | None


@dataclass(frozen=True)
class Document:
    """One version of a document."""

    name: str
    version: int
    content: str
    parameters: Mapping[str, Parameter]
    step_name: str
    inputs: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()

    def values(self, given: Mapping[str, Sequence[str]]) -> dict[str, Value]:
        """The value of every parameter. Raises AwsError for unknown, missing and forbidden ones, and past 64 KB."""
        unknown = sorted(set(given) - set(self.parameters))
        if unknown:
            raise _bad_parameters(f"the document has no {', '.join(unknown)}")
        found: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if name in given:
                found[name] = parameter.value(given[name])
            elif parameter.default is not None:
                found[name] = parameter.default
            else:
                raise _bad_parameters(f"{name} is missing")
        sent = sum(len(text.encode()) for texts in given.values() for text in texts)
        if len(self.content.encode()) + sent > SIZE_LIMIT_BYTES:
            raise AwsError("MaxDocumentSizeExceeded", "The size limit of a document is 64 KB.")
        return found

    def timeout_s(self, values: Mapping[str, Value]) -> int:
        """How long the script may run; what is out of range silently becomes the default."""
        text = str(self._replaced(str(self.inputs.get("timeoutSeconds", DEFAULT_TIMEOUT_S)), values))
        return int(text) if text.isdecimal() and int(text) in TIMEOUT_RANGE_S else DEFAULT_TIMEOUT_S

    def prepare(self, values: Mapping[str, Value], agent: AgentKind) -> Prepared:
        """Renders the step as that kind of agent does."""
        variables = {
            f"SSM_{name}": str(value)
            for name, value in values.items()
            if self.parameters[name].is_variable and agent is not AgentKind.OLD
        }
        in_text = {
            name: value
            for name, value in values.items()
            if not (self.parameters[name].is_variable and agent is AgentKind.NEW)
        }
        lines = self.inputs["runCommand"]
        if isinstance(lines, str):
            lines = self._replaced(lines, in_text)
        rendered = [str(self._replaced(line, in_text)) for line in ([lines] if isinstance(lines, str) else lines)]
        folder = self.inputs.get("workingDirectory")
        working_directory = str(self._replaced(folder, in_text)) if folder else None
        return Prepared("\n".join(rendered), variables, working_directory)

    def _replaced(self, text: str, values: Mapping[str, Value]) -> Value:
        """The agent's way: one parameter after the other on the growing text, by Go's templates for `$`."""
        for name, value in values.items():
            if re.fullmatch(rf"\{{\{{\s*{name}\s*\}}\}}", text):
                return value
        for name, value in values.items():
            plain = value if isinstance(value, str) else json.dumps(value)
            text = re.sub(rf"\{{\{{\s*{name}\s*\}}\}}", functools.partial(_go_expanded, plain), text)
        return text


def parse(name: str, version: int, content: str, *, form: str = "YAML") -> Document:
    """Reads a document. Raises AwsError for what SSM would not take, or what is not done here."""
    if len(content.encode()) > SIZE_LIMIT_BYTES:
        raise AwsError("MaxDocumentSizeExceeded", "The size limit of a document is 64 KB.")
    try:
        document = json.loads(content) if form == "JSON" else yaml.safe_load(content)
    except (ValueError, yaml.YAMLError) as error:
        raise _bad_content(f"it is no {form}: {error}") from None
    _keys("the document", document, DOCUMENT_KEYS)
    if document.get("schemaVersion") != "2.2":
        raise AwsError("InvalidDocumentSchemaVersion", "only schemaVersion 2.2 is run here")
    declared = document.get("parameters", {})
    if not isinstance(declared, dict):
        raise _bad_content("parameters is no object")
    parameters = {name: _parameter(name, one) for name, one in declared.items()}
    steps = document.get("mainSteps")
    if not isinstance(steps, list) or len(steps) != 1:
        raise _bad_content("mainSteps is not a list of one step")
    inputs = _inputs(steps[0])
    return Document(name, version, content, parameters, steps[0]["name"], inputs)


def go_pattern(pattern: str) -> re.Pattern[str]:
    """The pattern as Go reads it: `$` is the end of the text and nothing else. Raises AwsError for what is not RE2."""
    if NOT_RE2.search(pattern):
        raise _bad_content(f"the agent cannot compile {pattern}")
    tokens = (r"\Z" if token in ("$", r"\z") else token for token in PATTERN_TOKEN.findall(pattern))
    try:
        return re.compile("".join(tokens), re.ASCII)
    except re.error as error:
        raise _bad_content(f"{pattern} is no pattern: {error}") from None


def _parameter(name: Any, declared: Any) -> Parameter:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _bad_content(f"parameter {name!r} is not of letters and digits")
    _keys(f"parameter {name}", declared, PARAMETER_KEYS)
    kind, interpolation = declared.get("type"), declared.get("interpolationType")
    if kind not in ("String", "StringList"):
        raise _bad_content(f"parameter {name} is of type {kind!r}; run here are String and StringList")
    if interpolation not in (None, "ENV_VAR") or (interpolation and kind != "String"):
        raise _bad_content(f"parameter {name} cannot have interpolationType {interpolation!r}")
    default = declared.get("default")
    if default is not None and not isinstance(default, str if kind == "String" else list):
        raise _bad_content(f"the default of {name} is no {kind}")
    allowed = declared.get("allowedValues", [])
    if not isinstance(allowed, list) or not all(isinstance(value, str) for value in allowed):
        raise _bad_content(f"allowedValues of {name} is no list of strings")
    if "allowedPattern" in declared:
        go_pattern(str(declared["allowedPattern"]))
    parameter = Parameter(name, kind, default, declared, interpolation == "ENV_VAR")
    if default is not None:
        try:
            parameter.value([default] if isinstance(default, str) else default)
        except AwsError as error:
            raise _bad_content(f"the default is forbidden: {error.message}") from None
    return parameter


def _inputs(step: Any) -> Mapping[str, Any]:
    _keys("the step", step, STEP_KEYS)
    if step.get("action") != "aws:runShellScript" or not isinstance(step.get("name"), str):
        raise _bad_content("the step is no aws:runShellScript with a name")
    condition = step.get("precondition", {"StringEquals": ON_LINUX})
    if condition != {"StringEquals": ON_LINUX}:
        raise _bad_content("run here are steps for Linux only")
    inputs = step.get("inputs")
    _keys("inputs", inputs, INPUT_KEYS)
    lines = inputs.get("runCommand")
    if not isinstance(lines, str) and not (isinstance(lines, list) and all(isinstance(line, str) for line in lines)):
        raise _bad_content("runCommand is no list of strings")
    checked: Mapping[str, Any] = inputs
    return checked


def _keys(what: str, found: Any, known: set[str]) -> None:
    if not isinstance(found, dict):
        raise _bad_content(f"{what} is no object")
    unknown = sorted(str(key) for key in found.keys() - known)
    if unknown:
        raise _bad_content(f"{what} has unknown {', '.join(unknown)}")


def _go_expanded(value: str, placeholder: re.Match[str]) -> str:
    """`$$` is a dollar sign, `$0` the placeholder itself, any other `$name` a group that is not there."""

    def expanded(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        return placeholder[0] if (match[2] or match[3]) == "0" else ""

    return GO_TEMPLATE.sub(expanded, value)


def _bad_parameters(told: str) -> AwsError:
    return AwsError("InvalidParameters", told)


def _bad_content(told: str) -> AwsError:
    return AwsError("InvalidDocumentContent", told)
