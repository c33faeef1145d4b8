"""Values that are almost right: a valid document after a cut, with a wrong type, a doubled key, a huge number."""

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

NUMBERS = (
    0, -1, 1, 2**31, 2**53 - 1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, 10**30, 10**310, -(10**310),
    10**4200, 0.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
WORDS = (
    "", " ", "\n", "\t", "\0", "\x1b[31m", "\x7f", "\u0085", "\u2028", "\ufeff", "\ud800", "\udc80", "é", "\U0001f600",
    "$(id)", "`id`", "{{ traceId }}", "'", '"', "'; id #", "a b", "../../etc/passwd", "/", ".", "..", "-", "--help",
    "--", "%s", "%(message)s", "{0}", "\\", "null", "true", "NaN", "1e400", "0x10", "1_000", "٣" * 8, "०१२३४५६७",
    "0" * 32, "\uff41\uff42", "[red]", "a" * 65, "x" * 300,
)  # fmt: skip
LONG_TEXTS = ("a" * 10_000, "é" * 5_000, "x" * (64 * 1024 + 1), "9" * 5000, "\n" * 500)
MOMENTS = (
    "2026-01-31T12:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30T12:00:00Z", "2026-01-31T24:00:00Z",
    "2026-01-31T12:00:60Z", "2026-1-31T12:00:00Z", "2026-01-31T12:00:00Z\n", "2026-01-31 12:00:00",
    "2026-01-31T12:00:00+00:00", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999-14:00",
    "٢٠٢٦-01-31T12:00:00Z", "20260131T120000Z",
)  # fmt: skip
DEPTHS = st.one_of(st.sampled_from([5, 33, 300, 700, 3000, 100_000]), st.integers(850, 1000))
_DEEP = "\x02deep {} {}\x02"
_DEEP_IN_JSON = re.compile(r'"?(?:\\u0002|\x02)deep ([0-9]+) (list|object)(?:\\u0002|\x02)"?')

odd_texts = st.one_of(
    st.sampled_from(WORDS), st.sampled_from(MOMENTS), st.text(max_size=20), st.sampled_from(LONG_TEXTS)
)
odd_numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-3, 70), st.integers(), st.floats())
deep = st.builds(_DEEP.format, DEPTHS, st.sampled_from(["list", "object"]))
odd_values: st.SearchStrategy[Any] = st.one_of(
    odd_texts, odd_numbers, st.sampled_from([None, True, False, [], {}, [[]], {"": {}}, [None]]).map(copy.deepcopy),
    deep,
    st.lists(odd_texts, max_size=3), st.dictionaries(odd_texts, odd_numbers, max_size=2),
)  # fmt: skip


@st.composite
def texts_near(draw: st.DrawFn, *valid: str) -> str:
    """A valid text, or one a small step away from it, or an odd one."""
    text = draw(st.sampled_from(valid))
    how = draw(st.integers(0, 8))
    at = draw(st.integers(0, max(0, len(text) - 1))) if 2 <= how <= 5 else 0
    if how <= 1:
        return text
    if how == 2:
        return text[:at]
    if how == 3:
        return text[:at] + draw(st.sampled_from(WORDS)) + text[at:]
    if how == 4 and re.match("[0-9]{4}-[0-9]{2}-", text):
        return draw(st.sampled_from(MOMENTS))
    if how == 4:
        return text[:at] + draw(st.sampled_from(WORDS)) + text[at + 1 :]
    if how == 5:
        return text[:at] + text[at:].upper()
    if how == 6:
        return text + draw(st.sampled_from(["\n", *WORDS]))
    return f"{text}\n" if how == 7 else draw(odd_texts)


@st.composite
def changed(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """A copy of a document of JSON with up to `most` changes in it, none of them is one that `json` can not write."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(0, most))):
        places = list(_places(document))
        if places:
            draw(st.sampled_from(CHANGES))(draw, *places[draw(st.integers(0, len(places) - 1))])
    return document


@st.composite
def documents(draw: st.DrawFn, document: Any, most: int = 3) -> bytes:
    """The bytes of a changed document, mostly as JSON ought to be, else hurt."""
    value = draw(changed(document, most))
    if isinstance(value, dict) and draw(st.integers(0, 3)) == 0:
        value = {name: value[name] for name in draw(st.permutations(list(value)))}
    text = _deepened(json.dumps(value, ensure_ascii=draw(st.booleans())))
    if draw(st.integers(0, 7)) == 0:
        starts = [at for at, character in enumerate(text) if character == "{"]
        name = draw(st.sampled_from(sorted(value) if isinstance(value, dict) and value else ["schema"]))
        if starts:  # a field twice, or one that belongs elsewhere
            at = draw(st.sampled_from(starts[:50])) + 1
            more = "," if text[at : at + 1] != "}" else ""
            text = f"{text[:at]}{json.dumps(name)}:{_deepened(json.dumps(draw(odd_values)))}{more}{text[at:]}"
    return draw(hurt(text.encode("utf-8", "surrogatepass")))


@st.composite
def hurt(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes as they are, in two of three cases, else cut, garbled, doubled or written in another way."""
    how = draw(st.integers(0, 19))
    at = draw(st.integers(0, max(0, len(content) - 1))) if 1 <= how <= 3 else 0
    ways: Mapping[int, Callable[[], bytes]] = {
        1: lambda: content[:at],
        2: lambda: content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:],
        3: lambda: content[:at] + draw(st.binary(min_size=1, max_size=3)) + content[at + 1 :],
        4: lambda: b"\xef\xbb\xbf" + content,
        5: lambda: content.decode("utf-8", "replace").encode("utf-16"),
        6: lambda: content + content,
        7: lambda: content + draw(st.sampled_from([b"\n", b"\0", b"}", b"]", b",", b" " * 70_000, b"\xff", b"NaN"])),
    }
    return ways.get(how, lambda: content)()


def as_os_text(text: str) -> str:
    """A text as argv, the environment and file names can have it: no NUL, and bytes that are no UTF-8 escaped."""
    return text.encode("utf-8", "surrogatepass").replace(b"\0", b"").decode("utf-8", "surrogateescape")


noise = st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)


def _replace(draw: st.DrawFn, container: Any, key: Any) -> None:
    container[key] = draw(odd_values)


def _bend(draw: st.DrawFn, container: Any, key: Any) -> None:
    """Another text of nearly the same letters, another number near by, else any odd value."""
    value = container[key]
    if isinstance(value, str):
        container[key] = draw(texts_near(value))
    elif isinstance(value, int | float):
        container[key] = draw(odd_numbers)
    else:
        container[key] = draw(odd_values)


def _remove(draw: st.DrawFn, container: Any, key: Any) -> None:
    del container[key]


def _wrap(draw: st.DrawFn, container: Any, key: Any) -> None:
    container[key] = draw(
        st.sampled_from([[container[key]], {"value": container[key]}, json.dumps(container[key])[:100]])
    )


def _add(draw: st.DrawFn, container: Any, key: Any) -> None:
    """A further element, or a field of another name."""
    if isinstance(container, list):
        container.append(draw(st.one_of(st.just(copy.deepcopy(container[key])), odd_values)))
    else:
        container[draw(odd_texts)] = draw(odd_values)


CHANGES = (_bend, _bend, _bend, _replace, _remove, _wrap, _add)


def _deepened(text: str) -> str:
    """Puts real nesting where a mark for it stands: json itself can not write what is nested that deep."""

    def nested(mark: re.Match[str]) -> str:
        opening, closing = ("[", "]") if mark[2] == "list" else ('{"a":', "}")
        return opening * int(mark[1]) + "1" + closing * int(mark[1])

    return _DEEP_IN_JSON.sub(nested, text)
