"""The two ways in which AWS services are spoken to here, read and checked by the SDK's own service models."""

import functools
import json
import re
import urllib.parse
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from botocore.loaders import Loader
from botocore.model import OperationNotFoundError, ServiceModel

# The model's "any text that XML can hold", in Java's notation that Python cannot compile. Nothing to check there.
ANY_XML_TEXT = r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*"
TYPES = {"structure": dict, "map": dict, "list": list, "string": str, "integer": int, "long": int, "boolean": bool}
Row = TypeVar("Row")


@dataclass
class AwsError(Exception):
    """What a service answers instead of a result."""

    code: str
    message: str
    status: int = 400


class Service(Protocol):
    """A stand-in: takes an operation with its checked arguments."""

    def call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The operation's result. Raises AwsError."""

    def close(self) -> None:
        """Stops what it started."""


class JsonProtocol:
    """AWS JSON 1.1, as SSM speaks it."""

    service = "ssm"
    content_type = "application/x-amz-json-1.1"
    invalid, throttled = "ValidationException", "ThrottlingException"

    def request(self, target: str, body: bytes) -> tuple[str, Any]:
        """The operation and its arguments. Raises AwsError."""
        operation = target.rpartition(".")[2]
        _shape(self.service, operation, "UnknownOperationException")
        try:
            return operation, json.loads(body)
        except ValueError as error:
            raise AwsError("SerializationException", str(error)) from None

    def answer(self, operation: str, result: Mapping[str, Any]) -> bytes:
        return json.dumps(result).encode()

    def error(self, error: AwsError) -> bytes:
        return json.dumps({"__type": error.code, "message": error.message}).encode()


class QueryProtocol:
    """The older Query protocol, a form in and XML out, as Auto Scaling speaks it."""

    service = "autoscaling"
    content_type = "text/xml"
    invalid, throttled = "ValidationError", "Throttling"
    namespace = "http://autoscaling.amazonaws.com/doc/2011-01-01/"

    def request(self, target: str, body: bytes) -> tuple[str, Any]:
        """The operation and its arguments. Raises AwsError."""
        form = dict(urllib.parse.parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        operation = form.pop("Action", "")
        form.pop("Version", None)
        shape = _shape(self.service, operation, "InvalidAction")
        try:
            return operation, _from_form(shape, _tree(form))
        except (ValueError, TypeError, LookupError, AttributeError):
            # A name that is both a value and a folder, a list without numbers, a number that is none.
            raise AwsError("MalformedQueryString", f"the form does not fit {operation}") from None

    def answer(self, operation: str, result: Mapping[str, Any]) -> bytes:
        shape = _model(self.service).operation_model(operation).output_shape
        root = ET.Element(f"{operation}Response", xmlns=self.namespace)
        if shape is not None:
            _to_xml(ET.SubElement(root, f"{operation}Result"), shape, result)
        ET.SubElement(ET.SubElement(root, "ResponseMetadata"), "RequestId").text = str(uuid.uuid4())
        return _xml(root)

    def error(self, error: AwsError) -> bytes:
        root = ET.Element("ErrorResponse", xmlns=self.namespace)
        told = ET.SubElement(root, "Error")
        ET.SubElement(told, "Type").text = "Sender" if error.status < 500 else "Receiver"
        ET.SubElement(told, "Code").text = error.code
        ET.SubElement(told, "Message").text = error.message
        ET.SubElement(root, "RequestId").text = str(uuid.uuid4())
        return _xml(root)


def check(protocol: JsonProtocol | QueryProtocol, operation: str, arguments: Any) -> None:
    """Holds the arguments against the model: what is missing, too long, too many, out of range. Raises AwsError."""
    problems = list(_problems(_shape(protocol.service, operation, protocol.invalid), arguments, ""))
    if problems:
        told = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected: {'; '.join(problems)}"
        raise AwsError(protocol.invalid, told)


def of_operation(operation: str) -> JsonProtocol | QueryProtocol:
    """The protocol of the service that has the operation. Raises AwsError when none has."""
    known = operation in _model(QueryProtocol.service).operation_names
    protocol = QueryProtocol() if known else JsonProtocol()
    _shape(protocol.service, operation, "UnknownOperationException")
    return protocol


def page(rows: Sequence[Row], token: str | None, size: int) -> tuple[list[Row], dict[str, str]]:
    """One page of the rows, and the NextToken when there are more. Raises AwsError for a token not of here."""
    if token and not re.fullmatch(r"page-[0-9]{1,9}", token):
        raise AwsError("InvalidNextToken", "The specified token is not valid.")
    start = int(token.removeprefix("page-")) if token else 0
    end = start + max(1, size)
    return list(rows[start:end]), ({"NextToken": f"page-{end}"} if end < len(rows) else {})


@functools.cache
def _model(service: str) -> Any:
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def _shape(service: str, operation: str, code: str) -> Any:
    try:
        return _model(service).operation_model(operation).input_shape
    except OperationNotFoundError:
        raise AwsError(code, f"there is no operation {operation[:64]!r} of {service}") from None


def _problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    expected = TYPES.get(shape.type_name)
    if expected and (not isinstance(value, expected) or (isinstance(value, bool) and expected is int)):
        raise AwsError("SerializationException", f"{path or 'the request'} is no {shape.type_name}")
    yield from (f"Value {str(value)[:64]!r} at '{path}' {problem}" for problem in _broken_limits(shape, value))
    if shape.type_name == "structure":
        for name in shape.required_members:
            if name not in value:
                yield f"Value null at '{_join(path, name)}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():
            if name in value:
                yield from _problems(member, value[name], _join(path, name))
    elif shape.type_name == "list":
        for number, item in enumerate(value, 1):
            yield from _problems(shape.member, item, f"{path}.{number}.member")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _problems(shape.value, item, _join(path, key))


def _broken_limits(shape: Any, value: Any) -> Iterator[str]:
    limits = shape.metadata
    size = value if shape.type_name in ("integer", "long") else len(value) if hasattr(value, "__len__") else 0
    kind = "value" if shape.type_name in ("integer", "long") else "length"
    must = "failed to satisfy constraint: Member must"
    if size < limits.get("min", size):
        yield f"{must} have {kind} greater than or equal to {limits['min']}"
    if size > limits.get("max", size):
        yield f"{must} have {kind} less than or equal to {limits['max']}"
    if "enum" in limits and value not in limits["enum"]:
        yield f"{must} satisfy enum value set: [{', '.join(limits['enum'])}]"
    pattern = limits.get("pattern", ANY_XML_TEXT)
    if pattern != ANY_XML_TEXT and not re.fullmatch(pattern, value):
        yield f"{must} satisfy regular expression pattern: {pattern}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _tree(form: Mapping[str, str]) -> dict[str, Any]:
    """`A.member.1=x` as nested dicts."""
    root: dict[str, Any] = {}
    for key, value in form.items():
        *folders, name = key.split(".")
        node = root
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = value
    return root


def _from_form(shape: Any, value: Any) -> Any:
    if shape.type_name == "structure":
        return {name: _from_form(shape.members[name], value[name]) for name in value if name in shape.members}
    if shape.type_name == "list":
        # An empty list is sent as the bare name.
        items = value["member"] if value else {}
        return [_from_form(shape.member, items[number]) for number in sorted(items, key=int)]
    if shape.type_name == "integer":
        return int(value)
    return value == "true" if shape.type_name == "boolean" else str(value)


def _to_xml(parent: ET.Element, shape: Any, value: Any) -> None:
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if value.get(name) is not None:
                _to_xml(ET.SubElement(parent, name), member, value[name])
    elif shape.type_name == "list":
        for item in value:
            _to_xml(ET.SubElement(parent, "member"), shape.member, item)
    elif shape.type_name == "timestamp":
        parent.text = datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    else:
        parent.text = str(value).lower() if shape.type_name == "boolean" else str(value)


def _xml(root: ET.Element) -> bytes:
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content
