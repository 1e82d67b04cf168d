"""The package's surface: its names, and what importing it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import trackside


def test_every_public_name_is_there():
    for name in trackside.__all__:
        if name != "__version__":
            assert getattr(trackside, name) is not None
    assert callable(trackside.model)
    assert callable(trackside.clean)
    with pytest.raises(AttributeError, match="has no `modle`; it has: Batch"):
        _ = trackside.modle


def test_importing_modules_takes_no_name_over():
    code = (
        "import trackside, pkgutil, importlib\n"
        "for m in pkgutil.walk_packages(trackside.__path__, 'trackside.'):\n"
        "    if not m.name.endswith(('_native', '__main__')): importlib.import_module(m.name)\n"
        "for n in ('model', 'clean', 'connect'): assert not hasattr(getattr(trackside, n), '__path__'), n\n"
        "assert type(trackside.model).__name__ == 'function' == type(trackside.clean).__name__\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_starts_without_numpy():
    code = (
        "import sys, trackside, trackside.__main__; assert 'numpy' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pandas_and_polars_are_not_imported_by_a_worker():
    code = (
        "import sys, trackside.harness, trackside.worker; assert not {'pandas', 'polars', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_stub_tells_what_the_library_has():
    from trackside import _native

    stub = ast.parse((Path(trackside.__file__).parent / "_native.pyi").read_text())
    said = {}
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            said[node.name] = {n.name for n in node.body if isinstance(n, ast.FunctionDef)} - {"__init__"}
        elif isinstance(node, ast.FunctionDef):
            said[node.name] = set()
    for name, methods in said.items():
        assert methods <= set(dir(getattr(_native, name))), name
    public = {name for name in vars(_native) if not name.startswith("_")}
    assert public - set(said) <= {"Memory", "Batches"}, "what arrays hold on to, and the type behind Iterator"


def test_the_library_is_imported_without_numpy():
    code = "import sys, trackside._native; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
