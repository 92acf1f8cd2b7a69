"""Optional packages are named with the extra that brings them."""

import subprocess
import sys

import pytest

from adapler_jax.io.extras import explain_missing_module, import_engine


def run_python(program):
    """Run a program in a process of its own, which fails on a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_missing_engine_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = (
        r'onnxruntime is not installed; install it with `pip install "\.\[onnx\]"` in the clone'
    )
    with pytest.raises(ImportError, match=message):
        import_engine("onnxruntime")


def test_a_public_name_without_its_package_names_the_extra():
    program = """
import sys
sys.modules["onnx"] = None
import adapler_jax
try:
    adapler_jax.export_onnx
except ImportError as error:
    print(error)
"""
    expected = 'onnx is not installed; install it with `pip install ".[onnx]"` in the clone'
    assert run_python(program) == expected


def test_a_package_that_lacks_a_name_is_told_with_the_reason():
    error = ImportError("cannot import name 'TensorProto' from 'onnx'", name="onnx")
    assert explain_missing_module(error) == (
        "onnx cannot be imported (cannot import name 'TensorProto' from 'onnx'); install it with "
        '`pip install ".[onnx]"` in the clone'
    )


@pytest.mark.compare
def test_openvino_forks_no_process_with_jax():
    program = """
import os, sys, time
import jax
forks = []
os.register_at_fork(before=lambda: forks.append(1))
from adapler_jax.io.extras import import_engine
core = import_engine("openvino").Core()
time.sleep(0.5)
print(forks, "openvino_telemetry" in sys.modules)
"""
    assert run_python(program) == "[] False"
