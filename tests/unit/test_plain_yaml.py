"""The reader of simple YAML: it agrees with a whole YAML parser or understands nothing."""

from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.platforms.plain_yaml import NotUnderstood, Opaque, Scalar, Tree, parse


def agrees(ours: Tree, theirs: Any) -> bool:
    """Whether every part that was read is what PyYAML reads there; its BaseLoader leaves all scalars text."""
    if isinstance(ours, Opaque):
        return True
    if isinstance(ours, Scalar):
        return bool(ours.text == theirs)
    if isinstance(ours, list):
        return isinstance(theirs, list) and len(ours) == len(theirs) and all(map(agrees, ours, theirs))
    same_keys = isinstance(theirs, dict) and ours.keys() == theirs.keys()
    return same_keys and all(agrees(value, theirs[key]) for key, value in ours.items())


def is_safe(text: str) -> bool:
    """Whether our reader is right or silent about a document."""
    try:
        theirs = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - it makes text alone
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError):
        return True
    try:
        ours = parse(text)
    except NotUnderstood:
        return True
    return agrees(ours, theirs or {})  # an empty document is an empty mapping to us


def plain(tree: Tree) -> Any:
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    return tree.text if isinstance(tree, Scalar) else Ellipsis


@pytest.mark.parametrize(
    "text, tree",
    [
        ("", {}),
        ("# only a comment\n\n", {}),
        ("---\na: 1\n", {"a": "1"}),
        ("a: b # c\nd: 'it''s'\ne: \"x\\\"y\"\n", {"a": "b", "d": "it's", "e": 'x"y'}),
        ("a:\nb: ~\n", {"a": "", "b": "~"}),
        ("a: b#c\nd: e:f\n", {"a": "b#c", "d": "e:f"}),
        ("a:\n- x\n- --y=z: no\n".replace(": no", ""), {"a": ["x", "--y=z"]}),
        ("a:\n  - b: 1\n    c:\n    - 2\n  - - 3\n    - 4\n", {"a": [{"b": "1", "c": ["2"]}, ["3", "4"]]}),
        ("a: [x, y]\nb: {c: d}\ne: |\n  text: no\n\n  more\nf: g\n", {"a": ..., "b": ..., "e": ..., "f": "g"}),
        ("a: &anchor b\nc: *anchor\nd: !tag e\n", {"a": ..., "c": ..., "d": ...}),
        ("\"a\": 1\r\n'b': 2\r\n", {"a": "1", "b": "2"}),
    ],
)
def test_what_installers_write_is_read(text: str, tree: Any) -> None:
    assert plain(parse(text)) == tree
    assert is_safe(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2\n", "a: 1\n---\na: 2\n", "a: 1\n...\nb: 2\n", "a:\tb\n", "\ta: b\n", "a: b\n c: d\n", "a: b\n  c\n",
        "a: [b,\n  c]\n", "a: 'b\n  c'\n", "<<: *x\na: b\n", "? a\n: b\n", "a: b: c\n", "a: `b`\n", "a: \"\\x41\"\n",
        "- a\n b\n", "just text\n", "a: b\x00\n", "a\rb: c\n", "a: &x\n  b: c\n", "a: 'b' c\n",
        "%YAML 1.1\n---\na: b\n",
        "a: - b\n", "a b: c\n", "{a: b}\n", "\ufeffa: b\n", "a: b\u2028c: d\n", "- " * 40 + "a\n", "a: \"b\n",
        "a: [b\n",
    ],
)  # fmt: skip
def test_what_goes_beyond_is_not_understood_and_not_repeated(text: str) -> None:
    with pytest.raises(NotUnderstood) as caught:
        parse(text.replace("b", "SECRET"))
    assert "SECRET" not in str(caught.value)


FRAGMENTS = st.sampled_from(
    [
        "a: b", "a:", "b: 'c'", 'c: "d"', "- a", "- b: c", "-", "  a: b", "  - c", "    d: e", "# note", "", "a: # c",
        "a: |",
        "a: >-", "  text", "a: [b]", "a: {b: c}", "a: [b", "]", "a: &x b", "a: *x", "a: !t b", "---", "...", "<<: *x",
        "- - a", "- # c", "a: b #c", "a: b#c", "a : b", "? a", ": b", "a: -", "a: - b", "'a': b", '"a\\tb": c', "a: 'b",
        "a: ''", "a: it's", "- 'a': b", "-a: b", "a: b:", "a: :b", "--- a", "a: | # c", "a: |2", "a: ]", "  ",
        "   x: y",
    ]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=7))
@settings(max_examples=300)
@example(["a: |", "# note", "a: b"])
@example(["- b: c", "  a: b"])
def test_lines_put_together_are_read_rightly_or_not_at_all(lines: list[str]) -> None:
    assert is_safe("\n".join(lines) + "\n")


@given(st.text(st.sampled_from("ab:- #'\"\n[]{}|>&*!%@`,?\\\t~0"), max_size=40))
@settings(max_examples=300)
def test_any_text_is_read_rightly_or_not_at_all(text: str) -> None:
    assert is_safe(text)


SCALARS = st.text(st.characters(codec="utf-8"), max_size=12)
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=12
)


@given(st.dictionaries(SCALARS, DATA, max_size=4), st.booleans())
def test_any_data_that_a_yaml_writer_writes_is_read_rightly_or_not_at_all(data: dict[str, Any], in_one: bool) -> None:
    assert is_safe(yaml.dump(data, default_flow_style=None if in_one else False))


WORDS = st.from_regex(r"\A[a-z][a-z0-9./=:-]{0,12}[a-z0-9]\Z").filter(lambda word: ": " not in word)
SIMPLE = st.recursive(
    WORDS, lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(
        st.from_regex(r"\A[a-z][a-z0-9.-]{0,8}\Z"), inner, min_size=1, max_size=3), max_leaves=10
)  # fmt: skip


@given(st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9.-]{0,8}\Z"), SIMPLE, min_size=1, max_size=4))
def test_what_is_plain_enough_is_really_read(data: dict[str, Any]) -> None:
    assert plain(parse(yaml.dump(data, default_flow_style=False, width=1000))) == data
