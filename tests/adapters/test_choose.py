from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters import ADAPTERS, check, choose, guess
from adapters.base import AdapterError, AmbiguousModel, LoadFailed, MissingFramework, NoAdapter, Options
from adapters.choose import spellings
from adapters.imports import how_to_install
from adapters.inspection import verdicts

from .kits import files_in, unpack


def chosen(root: Path, path: str, framework: str | None = None, form: str | None = None, **more: Any) -> Any:
    warnings: list[str] = []
    adapter = more.pop("adapter", None)
    found, files = choose(
        files_in(root, path, **more), framework=framework, format=form, adapter=adapter, warn=warnings.append
    )
    return found.name, files.path, warnings


@pytest.fixture
def onnx_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("iris")
    return (root / unpack("iris-bare", root).files.path).read_bytes()


@pytest.mark.parametrize(
    ("files", "words"),
    [(("m.gguf", "README.md"), "serve it with llama.cpp"), (("model_index.json", "unet/a.safetensors"), "diffusers")],
    ids=["gguf", "diffusers"],
)
def test_a_folder_of_what_is_not_served_is_called_that(files: tuple[str, ...], words: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(NoAdapter, match=words):
        chosen(tmp_path, ".")


@pytest.mark.parametrize("framework", ["onnx", "ONNX", "ONNX Runtime", "onnxruntime 1.19", "onnx:1.15", None])
def test_spellings_of_onnx(framework: str | None, tmp_path: Path, onnx_bytes: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx_bytes)
    assert chosen(tmp_path, "m.onnx", framework) == ("onnx", "m.onnx", [])


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("Scikit-learn", "scikit-learn", "scikit-learn"),
        ("sklearn:1.3.0", "sklearn:1.3.0", "sklearn"),
        ("Scikit Learn 1.3", "scikit-learn-1.3", "scikit"),
        ("torch==2.1", "torch==2.1", "torch"),
        ("xgboost_2.0", "xgboost-2.0", "xgboost"),
        (".pkl", "pkl", "pkl"),
    ],
)
def test_a_version_is_cut_from_the_name(text: str, first: str, last: str) -> None:
    assert (spellings(text)[0], spellings(text)[-1]) == (first, last)


def test_format_wins_over_framework(tmp_path: Path, onnx_bytes: bytes) -> None:
    (tmp_path / "m.bin").write_bytes(onnx_bytes)
    assert chosen(tmp_path, "m.bin", "Mistral-7B", "onnx") == ("onnx", "m.bin", [])


def test_content_decides_where_names_say_nothing(tmp_path: Path, onnx_bytes: bytes) -> None:
    (tmp_path / "model").write_bytes(onnx_bytes)
    assert chosen(tmp_path, "model") == ("onnx", "model", [])


def test_contradiction_ends_in_the_files_verdict_with_one_warning(tmp_path: Path) -> None:
    kit = unpack("iris-liar", tmp_path)
    name, path, warnings = chosen(tmp_path, kit.files.path, kit.model["framework"])
    assert (name, path) == ("onnx", "model/iris.onnx")
    assert warnings == ["the Kitfile says 'sklearn:1.3.0'; model/iris.onnx is of onnx: the file decides"]


def test_folder_with_external_data_and_labels_gives_the_model_file(tmp_path: Path) -> None:
    kit = unpack("digits-external", tmp_path)
    assert chosen(tmp_path, kit.files.path, "ONNX")[1] == "model/digits.onnx"
    assert chosen(tmp_path, kit.files.path)[1] == "model/digits.onnx"


def test_two_models_in_a_folder_are_ambiguous(tmp_path: Path) -> None:
    kit = unpack("two-weights", tmp_path)
    with pytest.raises(
        AmbiguousModel,
        match=r"model.path '\.' could mean any of a\.onnx \(onnx\), b\.onnx \(onnx\); name one file in model\.path or, ",
    ):
        chosen(tmp_path, kit.files.path, "onnx")


def test_what_the_kitfile_names_as_part_is_not_the_model(tmp_path: Path) -> None:
    kit = unpack("two-weights", tmp_path)
    assert chosen(tmp_path, kit.files.path, "onnx", parts=("b.onnx",))[1] == "a.onnx"


def test_a_part_beside_the_model_changes_nothing(tmp_path: Path) -> None:
    kit = unpack("init-two", tmp_path)
    assert chosen(tmp_path, kit.files.path, parts=kit.files.parts) == ("onnx", "digits.onnx", [])


def test_unknown_framework_names_what_was_asked_for(tmp_path: Path) -> None:
    kit = unpack("unknown-framework", tmp_path)
    wanted = r"^no adapter for 'model\.weird': the Kitfile says framework 'Mistral-7B'.*there are onnx.*--adapter$"
    with pytest.raises(NoAdapter, match=wanted):
        chosen(tmp_path, kit.files.path, kit.model["framework"])
    with pytest.raises(NoAdapter, match=wanted):
        guess("model.weird", framework="Mistral-7B", format=None)


@pytest.mark.parametrize(
    ("path", "framework", "named"),
    [
        ("m.gguf", None, "GGUF models are not served by this runtime .*llama.cpp"),
        ("saved_model.pb", None, "TensorFlow .* tf2onnx"),
        ("m.bin", "TensorFlow:2.1", "TensorFlow .* tf2onnx"),
        ("m.keras", "keras", r"Keras .*: export it to ONNX with model\.export\(.model\.onnx., format=.onnx.\)"),
        ("m.dat", "TensorRT", "TensorRT .*ONNX file it was built from"),
    ],
)
def test_known_formats_of_others_are_refused_with_advice(
    path: str, framework: str | None, named: str, tmp_path: Path
) -> None:
    (tmp_path / path).write_bytes(b"GGUF....")
    with pytest.raises(NoAdapter, match=named):
        chosen(tmp_path, path, framework)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b'{"name": "tree",\n"version": "v4"', r"LightGBM's dump_model\(\) .*: save_model\('model.txt'\) is served"),
        (b'[\n  { "nodeid": 0, "depth": 0', r"XGBoost's dump_model\(\) .*: save_model\('model.ubj'\) is served"),
        (b'{\n"features_info":\n{', r"CatBoost wrote it as JSON: save_model\('model.cbm'\) is served"),
        (b"\x1f\x8b\x08\x00", "an archive or compressed: serve what is in it"),
    ],
)
def test_what_stands_for_a_model_is_refused_with_advice(head: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.dat").write_bytes(head)
    with pytest.raises(NoAdapter, match=f"no adapter for 'm.dat': .*{words}"):
        chosen(tmp_path, "m.dat")


def test_a_folder_without_a_model_is_said_to_be_one(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
        (tmp_path / name).write_text("x")
    there = r"no file in it \(a\.txt, b\.txt, c\.txt and 1 more\) is of a known kind"
    with pytest.raises(
        NoAdapter, match=rf"no adapter for the folder: no Kitfile names a framework, and {there}; there are"
    ):
        chosen(tmp_path, ".")


def test_missing_model_file_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("x")
    with pytest.raises(LoadFailed, match=r"model.path 'm.onnx' is not in the kit, which holds other\.txt"):
        chosen(tmp_path, "m.onnx", "onnx")


def test_operator_decides_over_kitfile_and_file(tmp_path: Path, onnx_bytes: bytes) -> None:
    (tmp_path / "m.dat").write_bytes(onnx_bytes)
    assert chosen(tmp_path, "m.dat", "sklearn", adapter="onnx") == ("onnx", "m.dat", [])
    with pytest.raises(NoAdapter, match="no adapter is called 'nope'; there are onnx"):
        chosen(tmp_path, "m.dat", adapter="nope")


@pytest.mark.parametrize(
    ("path", "framework", "name"),
    [
        ("m.onnx", None, "onnx"),
        ("model", "ONNX", "onnx"),
        ("model", None, None),
        (".", None, None),
        ("m.ONNX", "what", "onnx"),
    ],
)
def test_guess_from_names_alone(path: str, framework: str | None, name: str | None) -> None:
    found = guess(path, framework=framework, format=None)
    assert (found.name if found else None) == name


@pytest.mark.parametrize("module", ["adapters", "adapters.onnx.adapter", "adapters.choose"])
def test_importing_adapters_imports_no_framework_and_no_numpy(module: str) -> None:
    heavy = [
        "numpy",
        "onnxruntime",
        "onnx",
        "sklearn",
        "pandas",
        "joblib",
        "skops",
        "torch",
        "xgboost",
        "lightgbm",
        "catboost",
        "yaml",
        "asyncio",
    ]
    code = f"import sys, {module}; print(sorted({set(heavy)!r} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("sklearn", "sklearn", "sklearn"),
        ("pytorch", "torch", "pytorch"),
        ("xgboost", "xgboost", "xgboost"),
        ("lightgbm", "lightgbm", "lightgbm"),
        ("catboost", "catboost", "catboost"),
    ],
)
def test_missing_framework_names_the_extra(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what import finds for a package that is not there
    adapter = next(a for a in ADAPTERS if a.name == name)
    with pytest.raises(MissingFramework) as caught:
        adapter.prepare()
    said = f"this model needs the package {package!r}, which is not installed"
    assert str(caught.value) == f"{said}: {how_to_install(extra)}"


@pytest.mark.slow
def test_adapters_print_nothing_when_they_load(tmp_path: Path) -> None:
    kit = unpack("iris-onnx", tmp_path)
    program = (
        "import sys; from pathlib import Path; from adapters import load; from adapters.base import ModelFiles, Options\n"
        f"files = ModelFiles(Path(sys.argv[1]), {kit.files.path!r}, files=({kit.files.path!r},))\n"
        "load(files, Options(), framework=None, format=None, warn=print)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("path", "framework", "more", "error"),
    [
        ("m.gguf", None, {}, "GGUF models are not served"),
        ("m.weird", "TensorFlow", {}, "TensorFlow models are not served"),
        ("m.onnx", None, {"adapter": "kerras"}, "no adapter is called 'kerras'"),
        ("m", "python", {}, "would run Python code from the kit"),
    ],
)
def test_what_no_file_could_change_is_refused_by_name(
    path: str, framework: str | None, more: dict[str, str], error: str
) -> None:
    with pytest.raises(AdapterError, match=error):
        check(path, more.pop("trust", "restricted"), framework=framework, format=None, **more)


@pytest.mark.parametrize("path", ["m.onnx", "m.weird", ".", "models"])
@pytest.mark.parametrize("framework", [None, "onnx", "Mistral-7B"])
def test_what_files_may_decide_is_not_refused_by_name(path: str, framework: str | None) -> None:
    check(path, "restricted", framework=framework, format=None)


def test_a_framework_that_is_not_installed_is_refused_by_name_unless_the_file_may_be_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapters.imports.find_spec", lambda name: None)
    with pytest.raises(
        MissingFramework, match=r"needs the package 'sklearn', .*pip install '(scikit-learn|\.\[sklearn\])"
    ):
        check("m.pkl", "restricted", framework="sklearn", format=None)
    check("m.bin", "restricted", framework="sklearn", format=None)
    check("m.weird", "restricted", framework=None, format=None)


@pytest.mark.parametrize("names", [("m.onnx",), ("m.joblib", "README.md"), ("m",), ("model.cbm",)])
def test_an_empty_file_is_named_as_such(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("text" if name == "README.md" else "")
    with pytest.raises(LoadFailed, match=rf"^{names[0]} is empty \(0 bytes\): save or copy the model again$"):
        chosen(tmp_path, "." if len(names) > 1 else names[0])


def test_a_web_page_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "m.joblib").write_text("\n<!DOCTYPE html><html><title>404")
    with pytest.raises(
        LoadFailed, match=r"^m\.joblib is a web page \(HTML\) and not the model's file: download it again"
    ):
        chosen(tmp_path, "m.joblib")
    (verdict,) = verdicts(files_in(tmp_path, "m.joblib"), Options())
    assert "is a web page" in (verdict.refused or "")


def test_a_git_lfs_pointer_is_named_as_such(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (tmp_path / "m.onnx").write_text(pointer)
    with pytest.raises(LoadFailed, match=r"^m\.onnx is a Git LFS pointer and not the model's file: `git lfs pull`"):
        chosen(tmp_path, "m.onnx", "onnx")
