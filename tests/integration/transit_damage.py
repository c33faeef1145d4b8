"""What a proxy can do to calls on their way to an S3 server and back, each as a function of the call and the way on.

What is changed in a request is signed anew, as if the damage came after the signature was checked: so what catches it
are the checksums, sizes and comparisons of the agent, never the signature.
"""

import base64
import hashlib
import re
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from tests.integration.s3_proxy import Answer, Forward, Request
from tests.sandbox.s3_server import ACCESS_KEY, REGION, SECRET_KEY

Damage: TypeAlias = Callable[[Request, Forward], Answer]
Bytes: TypeAlias = Callable[[bytes], bytes]
CHECKSUM = "x-amz-checksum-sha256"
MOST_WAIT_S = 30.0


def signed(request: Request, upstream: str) -> Request:
    """The same with a signature that is right for what it is now."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    left_out = {"authorization", "x-amz-date", "x-amz-content-sha256", "host", "content-length", "content-md5"}
    headers = {name: value for name, value in request.headers.items() if name.lower() not in left_out}
    made = AWSRequest(request.method, f"http://{upstream}{request.target}", headers, request.body)
    S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION).add_auth(made)
    return replace(request, headers=dict(made.headers.items()))


def requests(call: str, change: Callable[[Request], Request], upstream: str) -> Damage:
    """Changes each request of a kind."""

    def damage(request: Request, forward: Forward) -> Answer:
        return forward(signed(change(request), upstream)) if request.call == call else forward(request)

    return damage


def answers(call: str, change: Callable[[Answer], Answer], *, where: str = "") -> Damage:
    """Changes each good answer to a kind of call, of which the target has that text."""

    def damage(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        return change(answer) if request.call == call and where in request.target and answer.status < 300 else answer

    return damage


def invents(call: str, make: Callable[[Request], Answer]) -> Damage:
    """Answers in the server's stead, which never hears of the call."""

    def damage(request: Request, forward: Forward) -> Answer:
        return make(request) if request.call == call else forward(request)

    return damage


def only_part(number: int, damage: Damage) -> Damage:
    """The damage is done to one part alone."""
    return lambda request, forward: (
        damage(request, forward) if part_number(request) in (0, number) else forward(request)
    )


def times(most: int, damage: Damage, when: Callable[[Request], bool]) -> Damage:
    """The damage is done to the first such calls alone."""
    left = [most]

    def some(request: Request, forward: Forward) -> Answer:
        if when(request):
            left[0] -= 1
        return damage(request, forward) if left[0] >= 0 else forward(request)

    return some


def part_number(request: Request) -> int:
    """Of an uploaded part; 0 of another call."""
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.target).query)
    return int(query["partNumber"][0]) if "partNumber" in query else 0


def body(change: Bytes, *, with_checksum: bool = False) -> Callable[[Request], Request]:
    """Other bytes, under their old checksum or with their own."""

    def changed(request: Request) -> Request:
        content = change(request.body)
        headers = dict(request.headers) | ({_checksum_name(request): sha256(content)} if with_checksum else {})
        return replace(request, body=content, headers=headers)

    return changed


def content(change: Bytes) -> Callable[[Answer], Answer]:
    """Other bytes on their way back, of which the answer tells the right number."""
    return lambda answer: replace(answer, content=change(answer.content))


def breaks_off(answer: Answer) -> Answer:
    """The connection ends before all bytes are there that were told of."""
    return replace(answer, content=answer.content[:-1000], told_bytes=len(answer.content))


def flipped(at: float) -> Bytes:
    """One bit of the byte at that fraction of the whole."""

    def change(whole: bytes) -> bytes:
        place = min(int(len(whole) * at), len(whole) - 1)
        return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]

    return change


def taken(request: Request) -> Answer:
    """What a server says that took a part or an object."""
    etag = hashlib.md5(request.body, usedforsecurity=False).hexdigest()
    return Answer(200, {"ETag": f'"{etag}"', CHECKSUM: sha256(request.body)})


def completed(request: Request) -> Answer:
    """What a server says that made an object of the parts."""
    told = "<Bucket>backups</Bucket><Key>key</Key><ETag>&quot;0123456789abcdef0123456789abcdef-3&quot;</ETag>"
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return Answer(
        200, {"Content-Type": "application/xml"},
        f'<CompleteMultipartUploadResult xmlns="{space}">{told}</CompleteMultipartUploadResult>'.encode(),
    )  # fmt: skip


class Mixing:
    """Two parts that are on their way at once: the second one's body, with its checksum, goes in the first one's place.

    `swaps` sends the first one's in the second one's place too, else the second one's is there twice.
    """

    def __init__(self, first: int, second: int, upstream: str, *, swaps: bool) -> None:
        self._upstream, self._swaps = upstream, swaps
        self._of = {first: second, second: first if swaps else second}
        self._came: dict[int, Request] = {}
        self._all_there = threading.Condition()

    def __call__(self, request: Request, forward: Forward) -> Answer:
        number = part_number(request)
        if number not in self._of:
            return forward(request)
        with self._all_there:
            self._came[number] = request
            self._all_there.notify_all()
            if not self._all_there.wait_for(lambda: len(self._came) == len(self._of), MOST_WAIT_S):
                raise AssertionError("the other part does not come")
        other = self._came[self._of[number]]
        headers = dict(request.headers) | {_checksum_name(request): _told_checksum(other.headers)}
        return forward(signed(replace(request, body=other.body, headers=headers), self._upstream))


def last_part_left_out(listed: bytes) -> bytes:
    """A completion's list without its last part."""
    return re.sub(rb"<Part>(?:(?!<Part>).)*</Part>(?=</CompleteMultipartUpload>)", b"", listed, flags=re.S)


def numbers_exchanged(listed: bytes) -> bytes:
    """A completion's list in which the first two parts have each other's ETag and checksum."""
    first, second, *_ = re.findall(rb"<Part>.*?</Part>", listed, re.S)
    number = re.compile(rb"<PartNumber>\d+</PartNumber>")
    exchanged = [number.sub(number.findall(mine)[0], other) for mine, other in ((first, second), (second, first))]
    return listed.replace(first + second, b"".join(exchanged))


def first_part_twice(listed: bytes) -> bytes:
    """A completion's list that names the first part in place of the second one too."""
    first, second, *_ = re.findall(rb"<Part>.*?</Part>", listed, re.S)
    return listed.replace(second, first)


def sha256(whole: bytes) -> str:
    """As S3 writes it."""
    return base64.b64encode(hashlib.sha256(whole).digest()).decode()


def _checksum_name(request: Request) -> str:
    return next((name for name in request.headers if name.lower() == CHECKSUM), CHECKSUM)


def _told_checksum(headers: Mapping[str, str]) -> str:
    return next(value for name, value in headers.items() if name.lower() == CHECKSUM)
