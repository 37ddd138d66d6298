"""Formats that are well known and not served here, and what to use for them instead."""

from __future__ import annotations

from typing import Final

from adapters.spelling import spellings

ADVICE: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], str]]] = {
    "GGUF": (
        ("gguf", "ggml", "llama.cpp", "llama-cpp"),
        (".gguf", ".ggml", ".ggmf", ".llamafile"),
        "serve it with llama.cpp",
    ),
    "TensorFlow": (
        ("tensorflow", "tf", "tf-lite", "tflite", "savedmodel", "saved-model"),
        (".pb", ".tflite", ".tfrecords"),
        "convert it to ONNX with tf2onnx",
    ),
    "Keras": (("keras",), (".keras", ".h5", ".hdf5"), "export it to ONNX with model.export(format='onnx')"),
    "MLflow": (("mlflow",), (), "pack the model file inside (model.pkl, model.onnx) as model.path"),
    "Hugging Face": (("transformers", "huggingface", "hugging-face"), (), "export it to ONNX with optimum"),
    "TensorRT": (("tensorrt", "trt"), (".engine", ".plan"), "pack the ONNX file it was built from"),
    "OpenVINO": (("openvino",), (), "pack the ONNX file it was built from"),
    "Core ML": (("coreml", "core-ml"), (".mlmodel", ".coreml"), "convert it to ONNX with coremltools or onnxmltools"),
    "PMML": (("pmml",), (".pmml",), "convert the model to ONNX with skl2onnx"),
    "PaddlePaddle": (("paddle", "paddlepaddle"), (".pdmodel",), "convert it to ONNX with paddle2onnx"),
    "Caffe": (("caffe",), (".caffemodel",), "convert it to ONNX"),
    "JAX": (("jax", "flax"), (), "export it to ONNX with jax2onnx"),
    "TorchServe": (("torchserve",), (".mar",), "pack the TorchScript or .pt2 file inside it"),
}


def advice(framework: str | None, form: str | None, path: str) -> str | None:
    """One line for a kit of a kind that is known and not served; None for every other."""
    said = {form for text in (form, framework) if text for form in spellings(text)}
    for name, (frameworks, suffixes, instead) in ADVICE.items():
        if said & set(frameworks) or (suffixes and path.casefold().endswith(suffixes)):
            return f"{name} models are not served by this runtime ({path}): {instead}"
    return None
