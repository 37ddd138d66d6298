"""Right requests made wrong: bodies of JSON, of JSON with binary tensors, and protobuf messages. The same each time."""

import copy
import json
import random

ODD = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 2**31, 2**63, -(2**63) - 1, 2**64, 10**400, 1e308, float("nan"), float("inf"),
    "", "X", "\x00", "é", "\ud800", "a" * 5000, "NaN", "1", [], [[]], [[[[[[[]]]]]]], [None], [1, [2]], {}, {"a": {}},
    {"content_type": "np"}, {"content_type": "pd"}, {"content_type": 5}, {"binary_data_size": 4}, {"binary_data_size": -1},
    {"binary_data": True}, {"shared_memory_region": "r"}, {"classification": 2}, {"classification": -(2**70)},
    [0], [-1], [2**62, 2**62], [0, 2**40], [1] * 70, list(range(300)), "FP32", "INT64", "BYTES", "BF16", "FP8", "fp32",
)  # fmt: skip
NAMES = ("name", "shape", "datatype", "data", "inputs", "outputs", "parameters", "id", "binary_data_output", "é", "")
LENGTHS = (b"", b"0", b"-1", b"1e2", b"0x10", b" 7", b"1", b"99999999999999999999", b"\xff", b"2147483648")


class Mutator:
    """Endless wrong requests from right ones; the same for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def json_body(self, request):
        """A request, changed as a document, as bytes, or as both."""
        ways = self.random.random()
        body = json.dumps(self.document(request) if ways < 0.75 else request, ensure_ascii=False)
        data = body.encode("utf-8", "surrogatepass" if self.random.random() < 0.5 else "replace")
        if self.random.random() < 0.01:
            data = data.replace(b"]", b"]" * self.random.randrange(1, 9)).replace(
                b"[", b"[" * self.random.choice((2, 70, 3000))
            )
        return data if ways < 0.5 else self.bytes(data)

    def binary_body(self, request, tail):
        """The same with tensors behind the JSON: the body, and what the header says of its length."""
        head = json.dumps(self.document(request) if self.random.random() < 0.4 else request).encode()
        if self.random.random() < 0.2:
            head = self.bytes(head)
        if self.random.random() < 0.6:
            tail = self.bytes(tail)
        length = b"%d" % len(head)
        if self.random.random() < 0.2:
            near = b"%d" % max(0, len(head) + self.random.choice((-2, -1, 1, 2, len(tail), len(tail) + 1)))
            length = self.random.choice((near, *LENGTHS))
        return head + tail, length

    def document(self, value):
        """A copy with one to four places changed."""
        changed = copy.deepcopy(value)
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            self._change(changed)
        return changed

    def _change(self, node):
        while True:
            keys = list(node) if isinstance(node, dict) else range(len(node))
            if not keys:
                return
            key = self.random.choice(keys)
            child = node[key]
            if not isinstance(child, (dict, list)) or not child or self.random.random() < 0.25:
                break
            node = child
        way = self.random.random()
        if way < 0.6:
            node[key] = self._odd()
        elif way < 0.7:
            del node[key]
        elif isinstance(node, list):
            node.insert(key, self.random.choice((child, self._odd())))
        elif way < 0.85:
            node[self.random.choice(NAMES)] = self.random.choice((child, self._odd()))
        else:
            node[self.random.choice(NAMES)] = node.pop(key)

    def _odd(self):
        return copy.deepcopy(self.random.choice(ODD))

    def bytes(self, data):
        """The bytes with one to eight edits: changed, taken out, put in, doubled, cut off."""
        made = bytearray(data)
        for _ in range(self.random.choice((1, 1, 2, 3, 8))):
            if not made:
                return b""
            at, way = self.random.randrange(len(made)), self.random.randrange(6)
            if way == 0:
                made[at] = self.random.randrange(256)
            elif way == 1:
                made[at] ^= 1 << self.random.randrange(8)
            elif way == 2:
                del made[at : at + self.random.choice((1, 1, 4, 40))]
            elif way == 3:
                made[at:at] = self.random.randbytes(self.random.choice((1, 1, 4, 40)))
            elif way == 4:
                made[at:at] = made[at : at + self.random.choice((1, 8, 60))]
            elif self.random.random() < 0.2:
                del made[at:]
        return bytes(made)
