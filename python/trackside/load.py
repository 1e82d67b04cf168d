"""Finds the model that a pipeline file names, and makes an instance of it.

`use` is `package.module:Name` or `file.py:name`, the file relative to the pipeline file's directory, which is also put
on the import path so that a model file can import its neighbours. What goes wrong here is what users meet first: each
error names the file, the nearest name that exists, and the environment that was searched.

>>> find("trackside.models:Anomaly", ".").__name__
'Anomaly'
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from trackside.contract import Model, check_class, check_options
from trackside.errors import ModelError, did_you_mean
from trackside.function import SeriesFunction, SeriesModel

Target = SeriesFunction | type[Model]


def find(use: str, base: str | Path) -> Target:
    """The marked function or `Model` class that `use` names."""
    place, colon, name = use.rpartition(":")
    if not colon or not place or not name:
        raise ModelError(f"`{use}` names no model; write `file.py:name` or `package.module:Name`")
    is_file = place.endswith(".py") or "/" in place
    module = _from_file(Path(base) / place, place) if is_file else _from_package(place, Path(base))
    if not hasattr(module, name):
        choices = [n for n, v in vars(module).items() if _is_target(v) and v is not Model]
        raise ModelError(f"{place}: {did_you_mean('model', name, choices)}")
    return as_target(getattr(module, name), use)


def as_target(found: object, use: str) -> Target:
    """Check that an object is something to make models of."""
    if isinstance(found, SeriesFunction):
        return found
    if isinstance(found, type):
        if not issubclass(found, Model):
            raise ModelError(f"`{use}` is a class that does not derive from trackside.Model")
        check_class(found)
        return found
    if isinstance(found, Model):
        raise ModelError(f"`{use}` is an instance; name the class: each partition makes its own")
    if callable(found):
        raise ModelError(f"`{use}` is a plain function; put @trackside.model above it")
    raise ModelError(f"`{use}` is {type(found).__name__}, not a model; name a marked function or a Model class")


def make(target: Target, options: Mapping[str, Any], fields: tuple[str, ...], tags: tuple[str, ...]) -> Model:
    """An instance with its options, told its fields (the pipeline file's, or else its own) and tags."""
    if isinstance(target, SeriesFunction):
        model: Model = target.build(options)
        name = target.function.__name__
    else:
        check_options(target.__name__, target.__init__, options, skip=1)
        model, name = target(**options), target.__name__
    given: Any = model.fields  # a user's class may well say `fields = "value"`
    own = (given,) if isinstance(given, str) else tuple(given)
    model.fields, model.tags = fields or own, tags
    if not model.fields:
        raise ModelError(f'{name} is not told what to score; write `field = "value"` in its [[model]] block')
    return model


def try_out(model: Model) -> None:
    """Call a function model on an example, so that a wrong shape is found now and not at the first event."""
    note = model.try_out() if isinstance(model, SeriesModel) else None
    if note:
        sys.stderr.write(f"trackside: {note}\n")


def _is_target(value: object) -> bool:
    return isinstance(value, SeriesFunction) or (isinstance(value, type) and issubclass(value, Model))


def _from_file(path: Path, place: str) -> ModuleType:
    if not path.is_file():
        there = [p.name for p in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
        raise ModelError(f"no file {path.resolve()}; {did_you_mean('model file', path.name, there)}")
    _on_path(path.parent)
    name = path.stem
    if name in sys.modules or name in sys.stdlib_module_names:
        name = f"trackside_model_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{place} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise _import_failed(place, error) from error
    return module


def _from_package(place: str, base: Path) -> ModuleType:
    _on_path(base)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(f"{error.name}.")):
            raise ModelError(
                f"no module `{error.name}` in this environment ({sys.executable}) or in {base.resolve()}; "
                f"is it installed, or did you mean the file `{place}.py`?"
            ) from error
        raise _import_failed(place, error) from error
    except BaseException as error:
        raise _import_failed(place, error) from error


def _import_failed(place: str, error: BaseException) -> ModelError:
    """What a model file raises while it is imported, Ctrl-C and exit() included, is an error of that file."""
    hint = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"; install it in this environment: {sys.executable} -m pip install {error.name.partition('.')[0]}"
    line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
    return ModelError(f"{place} does not import{line}: {type(error).__name__}: {error}{hint}")


def _on_path(folder: Path) -> None:
    entry = str(folder.resolve())
    if entry not in sys.path:
        sys.path.insert(0, entry)
