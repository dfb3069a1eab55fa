"""What users do wrong about precisions."""

from bad_input.case import Case

PRECISION = [
    Case(
        "a precision that the bundle lacks",
        "infer a.png --bundle bundle --precision int8",
        "bundle has fp32. Take one of these",
    ),
    Case(
        "a precision that nobody has",
        "serve --bundle bundle --precision int4",
        "precision is 'int4'; bundle has fp32",
    ),
    Case(
        "a precision that the bundle lacks",
        "evaluate --data synthetic:3,8 --bundle bundle --precision fp16",
        "precision is 'fp16'; bundle has fp32",
    ),
    Case(
        "a precision that the bundle lacks",
        "score --pool synthetic:4,4 --bundle bundle --precision fp16 --out new.csv",
        "precision is 'fp16'; bundle has fp32",
    ),
    Case(
        "a precision that cannot be made",
        "export checkpoint --out new --val synthetic:9,256 --precision int4",
        "expected one of fp16, int8, int8-trt. fp32 is always made",
    ),
    Case(
        "the training data as validation data",
        "export checkpoint --out new --val synthetic:1,256,0-0.5 --precision int8",
        "holds 48 person(s) of the training data",
    ),
]
