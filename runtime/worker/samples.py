"""Samples: requests with the answers that the data scientist saw. A worker that answers otherwise never becomes ready.

The file: `{"samples": [{"request": …, "response": {"outputs": […]}, "rtol": 0.0, "atol": 0.0}, …]}`, where request and
outputs are those of the Open Inference Protocol. A float is right if `abs(got - want) <= atol + rtol * abs(want)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from runtime.errors import InvalidKitfile, SamplesDiffer

_LARGEST_FILE_BYTES: Final = 64 * 2**20
_SPECIAL: Final = {None: math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and outputs that have to come back; others may come too."""

    request: Mapping[str, Any]
    outputs: tuple[Mapping[str, Any], ...]
    rtol: float
    atol: float

    def check(self, number: int, answer: Mapping[str, Any]) -> None:
        """Compares the `number`-th sample with what the model answered, a response of the protocol.

        Raises:
            SamplesDiffer: with the output, the element, and both values.
        """
        got = {tensor["name"]: tensor for tensor in answer["outputs"]}
        for want in self.outputs:
            name = want["name"]
            if name not in got:
                there = ", ".join(map(repr, got))
                raise SamplesDiffer(f"sample {number}: no output {name!r}, the model gives {there}")
            for key in ("datatype", "shape"):
                if got[name][key] != want[key]:
                    raise SamplesDiffer(f"sample {number}: {key} of {name} is {got[name][key]}, wanted {want[key]}")
            self._check_data(number, want, got[name]["data"])

    def _check_data(self, number: int, want: Mapping[str, Any], data: list[Any]) -> None:
        is_right = self._close if want["datatype"] in _FLOATS else _equal
        wrong = [index for index, pair in enumerate(zip(data, want["data"], strict=False)) if not is_right(*pair)]
        if wrong or len(data) != len(want["data"]):
            first = wrong[0] if wrong else min(len(data), len(want["data"]))
            seen, said = (_shown(values[first : first + 1]) for values in (data, want["data"]))
            tolerance = f" (rtol {self.rtol:g}, atol {self.atol:g})" if want["datatype"] in _FLOATS else ""
            raise SamplesDiffer(
                f"sample {number}: {want['name']}[{first}] is {seen}, the sample says {said}{tolerance}; "
                f"{max(len(wrong), 1)} of {len(want['data'])} values differ: not the model that its author tried"
            )

    def _close(self, got: Any, want: Any) -> bool:
        left, right = (float(_SPECIAL.get(value, value) if _is_special(value) else value) for value in (got, want))
        if math.isnan(right) or math.isinf(right):
            return left == right or (math.isnan(left) and math.isnan(right))
        return abs(left - right) <= self.atol + self.rtol * abs(right)


def read_samples(path: Path) -> tuple[Sample, ...]:
    """The samples in a file of the kit.

    Raises:
        InvalidKitfile: the file is not there, or holds no samples.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise InvalidKitfile(f"the samples in {path.name} take more than {_LARGEST_FILE_BYTES} bytes")
        document = orjson.loads(path.read_bytes())
        return tuple(
            Sample(
                request=dict(item["request"]),
                outputs=tuple(_tensor(output) for output in item["response"]["outputs"]),
                rtol=float(item.get("rtol", 0.0)),
                atol=float(item.get("atol", 0.0)),
            )
            for item in document["samples"]
        )
    except OSError as error:
        raise InvalidKitfile(f"the samples {path.name} are not in the kit: pack them as a model part") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InvalidKitfile(
            f'{path.name} does not hold samples, {{"samples": [{{"request", "response"}}]}}: {reason}'
        ) from error


def _tensor(output: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "name": str(output["name"]),
        "datatype": output["datatype"],
        "shape": output["shape"],
        "data": list(output["data"]),
    }


def _equal(got: Any, want: Any) -> bool:
    return type(got) is type(want) and bool(got == want)


def _is_special(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _shown(values: list[Any]) -> str:
    return repr(values[0])[:64] if values else "missing"
