"""One thread for each process: several workers share the cores, and the networks are tiny."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch, NumPy and ONNX Runtime are loaded
