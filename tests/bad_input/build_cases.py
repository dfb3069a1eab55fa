"""What is wrong with a ``build``, and with ``--device tensorrt``; nothing here has a GPU.

What needs a GPU to go wrong is in tests/runtime: test_building.py, test_plan_cache.py.
"""

from bad_input.case import Case

BUILD = [
    Case("no bundle there", "build --bundle empty", "empty is no bundle"),
    Case("a bundle with an altered file", "build --bundle cut-bundle", "copy the bundle"),
    Case(
        "an unknown precision",
        "build --bundle bundle --precision int4",
        "expected one of fp32, fp16, int8-trt",
    ),
    Case(
        "a precision that the bundle does not have",
        "build --bundle bundle --precision fp16",
        "bundle has fp32. Take one of these",
    ),
    Case(
        "batch sizes out of order",
        "build --bundle bundle --min-batch 4 --opt-batch 2",
        "expected 1 ≤ min ≤ opt ≤ max",
    ),
    Case("a batch of none", "build --bundle bundle --min-batch 0", "expected 1 ≤ min"),
    Case(
        "a batch in words", "build --bundle bundle --max-batch many", "see 'misgiving build --help'"
    ),
    Case(
        "no TensorRT",
        "build --bundle bundle",
        "TensorRT is not installed",
        lacks=("tensorrt", "tensorrt_rtx"),
    ),
    Case("no GPU", "build --bundle bundle", "libcuda.so.1 was not found"),
]

ON_TENSORRT = [
    Case(
        "no GPU for TensorRT",
        "serve --bundle bundle --listen 127.0.0.1:0 --device tensorrt",
        "libcuda.so.1 was not found",
    ),
    Case(
        "no TensorRT",
        "serve --bundle bundle --listen 127.0.0.1:0 --device tensorrt",
        "TensorRT is not installed",
        lacks=("tensorrt", "tensorrt_rtx"),
    ),
    Case(
        "no GPU for TensorRT",
        "infer a.png --bundle bundle --device tensorrt",
        "libcuda.so.1 was not found",
    ),
]
