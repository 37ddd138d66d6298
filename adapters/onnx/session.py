"""An ONNX Runtime session as a `Model`: https://onnxruntime.ai/docs/api/python/api_summary.html"""

import json
import re
from collections.abc import Mapping
from math import prod
from threading import get_ident
from typing import Any, Final

from adapters import checks
from adapters.base import LoadFailed, Model, ModelFiles, Options, TensorSpec, WrongInput
from adapters.onnx.file import Facts
from adapters.onnx.values import Cast, reader, writer
from adapters.trust import device_hint
from adapters.values import Arrays
from adapters.wording import failing, listed, reason

LEVELS: Final = {"disabled": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}
SOURCE: Final = re.compile(r"\S+\.(?:cc|h):\d+ ")
SIGNATURE: Final = re.compile(r"^(?:[^()]*::[^()]*\([^()]*\)(?: const)? |[A-Z]\w+ (?=[A-Z]))")
KNOWN: Final[Mapping[str, checks.Check]] = {
    "intra_op_threads": checks.THREADS,
    "inter_op_threads": checks.THREADS,
    "allow_spinning": checks.FLAG,
    "prepacking": checks.FLAG,
    "optimization": checks.one_of(*LEVELS),
    "device": checks.TEXT,
    "providers": checks.TEXTS,
}


def open_model(ort: Any, files: ModelFiles, facts: Facts, options: Options) -> Model:
    """Returns the model in `files.path`. Raises LoadFailed with what ONNX Runtime says, in one line."""
    own = checks.check(options.own, KNOWN, "onnx")
    session = _session(ort, files, options, own)
    inputs, readers = _inputs(session, facts, options, files.path)
    outputs, writers = _outputs(session, facts, files.path)
    zipped = {facts.zipmaps[spec.name] for spec in outputs if spec.name in facts.zipmaps}
    run = session._sess.run  # noqa: SLF001 - the session's own `run` checks again what a signature says, in 2 us
    make_options, own_options = ort.RunOptions, dict[int, Any]()
    errors, shared = ort.capi.onnxruntime_pybind11_state, _shared_dimensions(session)
    refused = errors.InvalidArgument, errors.Fail

    def plain_predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        run_options = own_options.get(thread := get_ident())
        if run_options is None:
            run_options = own_options[thread] = make_options()
        run_options.terminate = False
        try:
            return dict(zip(wanted, run(wanted, arrays, run_options), strict=True))
        except refused as error:
            if isinstance(error, errors.Fail) and not _is_of_values(error):
                raise
            raise WrongInput(plain(error)) from error

    def converting_predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        for dimension, places in shared.items():
            check_equal(dimension, {name: arrays[name].shape[axis] for name, axis in places if name in arrays})
        read = {name: readers[name](a) if name in readers else a for name, a in arrays.items()}
        made = plain_predict(read, wanted)
        return {name: writers[name](value) if name in writers else value for name, value in made.items()}

    def interrupt(thread: int) -> None:
        if (run_options := own_options.get(thread)) is not None:
            run_options.terminate = True

    return Model(
        platform="onnx_onnxv1",
        inputs=inputs,
        outputs=outputs,
        example={
            s.name: [facts.categories[s.name]] * prod(map(abs, s.shape[1:]))
            for s in inputs
            if s.name in facts.categories
        },
        predict=converting_predict if readers or writers or shared else plain_predict,
        batch=bool(inputs) and all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs)),
        threadsafe=True,
        fresh_outputs=True,
        steady=not any(operator == "Loop" for _, operator in facts.operators),
        takes_nothing=False,  # LSTM, GRU and others divide by the size
        labels=tuple(map(str, zipped.pop())) if len(zipped) == 1 else None,
        properties=_properties(ort, session, facts),
        interrupt=interrupt,
    )


def _is_of_values(error: Exception) -> bool:
    """True if an operator refuses values or sizes of this request, such as a text that is none of its categories."""
    text = str(error)
    return "status code returned while running" in text and "terminate flag" not in text


def _shared_dimensions(session: Any) -> dict[str, list[tuple[str, int]]]:
    """Returns the names of dimensions that several inputs have, with the axes; some operators would stretch a 1."""
    places: dict[str, list[tuple[str, int]]] = {}
    for given in session.get_inputs():
        for axis, dimension in enumerate(given.shape):
            if isinstance(dimension, str):
                places.setdefault(dimension, []).append((given.name, axis))
    return {dimension: found for dimension, found in places.items() if len({name for name, _ in found}) > 1}


def check_equal(dimension: str, sizes: Mapping[str, int]) -> None:
    """Raises WrongInput if inputs that share a dimension of the file have it in different sizes."""
    if len(set(sizes.values())) > 1:
        seen = listed(f"{name}: {size}" for name, size in sizes.items())
        raise WrongInput(f"inputs differ in their dimension {dimension!r}: {seen}")


def _session(ort: Any, files: ModelFiles, options: Options, own: Mapping[str, Any]) -> Any:
    providers = _providers(ort, own)
    settings = _session_options(ort, own, options.threads)
    with failing(f"{files.path} cannot be loaded by ONNX Runtime {ort.__version__}", plain):
        session = ort.InferenceSession(str(files.root / files.path), settings, providers=providers, enable_fallback=0)
    taken = session.get_providers()
    if left := [name for name, _ in providers if name not in taken]:
        took = f"ONNX Runtime took {taken}{device_hint(options)}"
        raise LoadFailed(f"the provider {left[0]} was asked for and cannot be used; {took}")
    return session


def _session_options(ort: Any, own: Mapping[str, Any], threads: int) -> Any:
    made = ort.SessionOptions()
    made.log_severity_level = 4  # the reason is in the exception; ONNX Runtime would print it as well
    made.intra_op_num_threads = own.get("intra_op_threads", threads)
    made.inter_op_num_threads = own.get("inter_op_threads", 0)
    # Spinning threads use a whole core between requests, to save a few microseconds in the next one.
    spinning = "1" if own.get("allow_spinning", False) else "0"
    made.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    made.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    made.add_session_config_entry("session.load_model_format", "ONNX")
    if not own.get("prepacking", True):  # what is packed is copied out of the mapped file
        made.add_session_config_entry("session.disable_prepacking", "1")
    made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{LEVELS[own.get('optimization', 'all')]}")
    return made


def _providers(ort: Any, own: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    device, _, index = own.get("device", "").casefold().partition(":")
    asked = own.get("providers") or [device or "cpu"]
    available = ort.get_available_providers()
    by_name = {name.casefold().removesuffix("executionprovider"): name for name in available}
    found = []
    for name in asked:
        full = by_name.get(name.casefold().removesuffix("executionprovider"))
        if full is None:
            has = f"this ONNX Runtime has {', '.join(available)}"
            raise LoadFailed(f"the device or provider {name!r} was asked for; {has}")
        found.append((full, {"device_id": index} if index and full != "CPUExecutionProvider" else {}))
    return found


def plain(error: BaseException) -> str:
    """Returns ONNX Runtime's reason in one line, without its error code, source positions and absolute paths."""
    text = reason(error, longest=10_000)
    if SOURCE.search(text):  # the reason comes after the last source position
        text = SIGNATURE.sub("", SOURCE.split(text)[-1])
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    return re.sub(r"(/[^\s:/]+)+/", "", text)[:300] or type(error).__name__


def _inputs(session: Any, facts: Facts, options: Options, name: str) -> tuple[tuple[TensorSpec, ...], dict[str, Cast]]:
    required = session.get_inputs()
    told = {spec.name: spec.shape for spec in options.inputs}
    if unknown := set(told) - {i.name for i in required}:
        raise LoadFailed(
            f"model.parameters.serving.inputs names {min(unknown)!r}; {name} has {listed(i.name for i in required)}"
        )
    one = len(required) == len(options.sampled) == 1  # then its name is free, as in requests
    sampled = {required[0].name if one else spec.name: spec.shape for spec in options.sampled}
    specs: list[TensorSpec] = []
    readers: dict[str, Cast] = {}
    for given in (*required, *session.get_overridable_initializers()):
        datatype, read = reader(given.type, f"input {given.name!r} of {name}")
        shape = told[given.name] if given.name in told else _shape(given, facts)
        shape = sampled.get(given.name) if shape is None else shape
        if shape is None:
            raise LoadFailed(
                f"input {given.name!r} of {name} has no shape in the file; "
                "say it in a Kitfile beside it: model.parameters.serving.inputs"
            )
        specs.append(TensorSpec(given.name, datatype, shape, optional=len(specs) >= len(required)))
        if read is not None:
            readers[given.name] = read
    return tuple(specs), readers


def _outputs(session: Any, facts: Facts, name: str) -> tuple[tuple[TensorSpec, ...], dict[str, Cast]]:
    specs, writers = [], {}
    for made in session.get_outputs():
        labels = facts.zipmaps.get(made.name)
        datatype, write = writer(made.type, labels, f"output {made.name!r} of {name}")
        if made.type.startswith("seq(map"):
            shape: tuple[int, ...] = (-1, len(labels or ()))
        elif made.type.startswith("seq("):
            shape = (-1, *(facts.shapes.get(made.name) or ()))
        else:
            known = _shape(made, facts)
            shape = (-1,) if known is None else known  # of an unknown rank; the protocol cannot say that
        specs.append(TensorSpec(made.name, datatype, shape))
        if write is not None:
            writers[made.name] = write
    return tuple(specs), writers


def _shape(node: Any, facts: Facts) -> tuple[int, ...] | None:
    """Returns -1 for symbolic and unknown dimensions; None if neither the file nor shape inference knows the rank."""
    if not node.shape and facts.shapes.get(node.name, ()) is None:
        return None
    return tuple(d if isinstance(d, int) and d >= 0 else -1 for d in node.shape)


def _properties(ort: Any, session: Any, facts: Facts) -> dict[str, str]:
    meta = session.get_modelmeta()
    known = {
        "onnxruntime_version": ort.__version__,
        "providers": ",".join(session.get_providers()),
        "producer": " ".join(filter(None, (meta.producer_name, getattr(meta, "producer_version", "")))),
    }
    maps = {f"labels_{name}": json.dumps(labels, ensure_ascii=False) for name, labels in facts.zipmaps.items()}
    return {key: value for key, value in (known | maps).items() if value}
