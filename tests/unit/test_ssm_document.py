"""The stand-in's document model: which documents and values SSM takes, and what each kind of agent makes of them."""

import pytest

from tests.sandbox import ssm_document
from tests.sandbox.aws_protocol import AwsError
from tests.sandbox.ssm_document import AgentKind

DOCUMENT = r"""
schemaVersion: "2.2"
parameters:
  traceId: {type: String, allowedPattern: "^[0-9a-f]{4}$"}
  word: {type: String, allowedPattern: "^[a-z]+$", interpolationType: ENV_VAR}
  kind: {type: String, allowedValues: [full, quick], default: quick}
  part: {type: String, allowedPattern: "[0-9]", default: a1b, minChars: 2, maxChars: 5}
  wait: {type: String, default: "60"}
  free: {type: String, default: ""}
mainSteps:
  - action: aws:runShellScript
    name: submit
    precondition: {StringEquals: [platformType, Linux]}
    inputs:
      timeoutSeconds: "{{ wait }}"
      runCommand: ["export TRACE_ID='{{ traceId }}'", "echo {{word}} {{ kind }}", "echo '{{free}}' {{nobody}}"]
"""
GIVEN = {"traceId": ["00ff"], "word": ["hello"]}


def document() -> ssm_document.Document:
    return ssm_document.parse("Agent", 1, DOCUMENT)


@pytest.mark.parametrize("agent, word, variables", [
    (AgentKind.OLD, "hello", {}),
    (AgentKind.NEW, "{{word}}", {"SSM_word": "hello"}),
    (AgentKind.NEW_REPLACING, "hello", {"SSM_word": "hello"}),
])  # fmt: skip
def test_an_agent_sets_variables_or_replaces_placeholders_by_its_kind(
    agent: AgentKind, word: str, variables: dict[str, str]
) -> None:
    prepared = document().prepare(document().values(GIVEN), agent)
    assert prepared.script.splitlines() == [
        "export TRACE_ID='00ff'", f"echo {word} quick", "echo '' {{nobody}}"
    ]  # fmt: skip
    assert prepared.variables == variables


@pytest.mark.parametrize("value, becomes", [
    ("a$$b", "a$b"), ("$HOME", ""), ("${HOME}x", "x"), ("$0", "{{free}}"), ("5$", "5$"), ("{{ kind }}", "{{ kind }}"),
])  # fmt: skip
def test_a_value_goes_through_go_templates(value: str, becomes: str) -> None:
    prepared = document().prepare(document().values({**GIVEN, "free": [value]}), AgentKind.OLD)
    assert prepared.script.splitlines()[2] == f"echo '{becomes}' {{{{nobody}}}}"


def test_a_value_with_a_placeholder_is_expanded_by_the_parameter_after_it() -> None:
    content = DOCUMENT.replace("  free: {type", "  afterwards: {type: String, default: '; id'}\n  free: {type").replace(
        "{{ kind }}", "{{ part }}").replace('"[0-9]"', '"."').replace("maxChars: 5", "maxChars: 20")  # fmt: skip
    risky = ssm_document.parse("Agent", 1, content)
    prepared = risky.prepare(risky.values({**GIVEN, "part": ["{{ afterwards }}"]}), AgentKind.OLD)
    assert prepared.script.splitlines()[1] == "echo hello ; id"


@pytest.mark.parametrize("changed, told", [
    ({"nobody": ["x"]}, "has no nobody"),
    ({"traceId": []}, "takes one value"),
    ({"traceId": ["00ff", "00ff"]}, "takes one value"),
    ({"traceId": ["00fg"]}, "does not match"),
    ({"traceId": ["00ff\n"]}, "does not match"),
    ({"traceId": ["00ff\n;id"]}, "does not match"),
    ({"word": ["a;id"]}, "does not match"),
    ({"kind": ["Full"]}, "is not one of"),
    ({"part": ["none"]}, "does not match"),
    ({"part": ["1"]}, "too short or too long"),
    ({"part": ["123456"]}, "too short or too long"),
])  # fmt: skip
def test_values_that_the_document_forbids_are_refused(changed: dict[str, list[str]], told: str) -> None:
    with pytest.raises(AwsError, match=told) as raised:
        document().values(GIVEN | changed)
    assert raised.value.code == "InvalidParameters"


def test_a_missing_value_is_refused_and_a_default_taken() -> None:
    with pytest.raises(AwsError, match="word is missing"):
        document().values({"traceId": ["00ff"]})
    assert document().values(GIVEN)["kind"] == "quick"


def test_a_pattern_without_anchors_matches_a_part_as_in_go() -> None:
    assert document().values({**GIVEN, "part": ["x1; y"]})["part"] == "x1; y"


@pytest.mark.parametrize("wait, timeout_s", [("5", 5), ("4", 3600), ("172800", 172800), ("172801", 3600), ("x", 3600)])
def test_a_time_out_that_is_out_of_range_silently_becomes_an_hour(wait: str, timeout_s: int) -> None:
    assert document().timeout_s(document().values({**GIVEN, "wait": [wait]})) == timeout_s


def test_document_and_values_together_stay_below_64_kilobytes() -> None:
    room = 64 * 1024 - len(DOCUMENT) - len("00ff" + "hello")
    assert document().values({**GIVEN, "free": ["x" * room]})
    with pytest.raises(AwsError) as raised:
        document().values({**GIVEN, "free": ["x" * (room + 1)]})
    assert raised.value.code == "MaxDocumentSizeExceeded"
    with pytest.raises(AwsError) as raised:
        ssm_document.parse("Agent", 1, DOCUMENT + "#" * 64 * 1024)
    assert raised.value.code == "MaxDocumentSizeExceeded"


@pytest.mark.parametrize("old, new, told", [
    ("parameters:", "parameter:", "unknown parameter"),
    ("  kind: {", "  kind_of: {", "not of letters and digits"),
    ("interpolationType: ENV_VAR", "interpolationType: ENV", "cannot have interpolationType"),
    ("interpolationType: ENV_VAR", "interpolation: ENV_VAR", "unknown interpolation"),
    ("[full, quick]", "[full, no]", "no list of strings"),
    ("default: quick", "default: slow", "the default is forbidden"),
    ('default: "60"', "default: 60", "no String"),
    ("^[a-z]+$", "^(?!x)[a-z]+$", "cannot compile"),
    ("^[a-z]+$", "^[a-z+$", "is no pattern"),
    ("type: String, default: \"\"", "type: Secret", "type 'Secret'"),
    ("aws:runShellScript", "aws:runPowerShellScript", "no aws:runShellScript"),
    ("platformType, Linux", "platformType, Windows", "Linux only"),
    ("runCommand: [", "runCommands: [", "unknown runCommands"),
    ("      runCommand", "      commands: 1\n      runCommand", "unknown commands"),
    ("  - action", "  -\n  - action", "list of one step"),
    ("schemaVersion:", "{", "no YAML"),
])  # fmt: skip
def test_documents_that_hold_anything_else_are_refused(old: str, new: str, told: str) -> None:
    assert old in DOCUMENT
    with pytest.raises(AwsError, match=told) as raised:
        ssm_document.parse("Agent", 1, DOCUMENT.replace(old, new))
    assert raised.value.code == "InvalidDocumentContent"


@pytest.mark.parametrize("content", ["", "[]", "text", "{}", '{"schemaVersion": "1.2"}', "schemaVersion: 2.2"])
def test_other_content_is_told_and_never_a_crash(content: str) -> None:
    with pytest.raises(AwsError):
        ssm_document.parse("Agent", 1, content)


@pytest.mark.parametrize("pattern, text, fits", [
    (r"^a$", "a", True), (r"^a$", "a\n", False), (r"[$]", "$", True), (r"\$$", "5$", True), (r"^\d$", "٣", False),
    (r"[]$]", "]", True), (r"^a\z", "a\n", False),
])  # fmt: skip
def test_patterns_are_read_as_go_reads_them(pattern: str, text: str, fits: bool) -> None:
    assert bool(ssm_document.go_pattern(pattern).search(text)) is fits


def test_commands_may_be_a_list_that_a_parameter_gives() -> None:
    content = """
schemaVersion: "2.2"
parameters:
  commands: {type: StringList, minItems: 1, maxItems: 2}
mainSteps:
  - {action: "aws:runShellScript", name: run, inputs: {runCommand: "{{ commands }}", workingDirectory: "/tmp"}}
"""
    listed = ssm_document.parse("RunShellScript", 1, content)
    prepared = listed.prepare(listed.values({"commands": ["true", "false"]}), AgentKind.OLD)
    assert (prepared.script, prepared.working_directory) == ("true\nfalse", "/tmp")
    with pytest.raises(AwsError, match="too few or too many"):
        listed.values({"commands": []})
