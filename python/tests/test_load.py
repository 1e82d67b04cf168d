"""What a pipeline file names is found, or the error says how to name it."""

import re
from pathlib import Path

import pytest

import trackside as ts
from trackside.errors import ModelError
from trackside.load import find, make

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    "use", ["models_for_tests.py:spikes", "models_for_tests:Running", "./models_for_tests.py:Split"]
)
def test_models_are_found_in_files_and_packages(use):
    assert find(use, HERE) is not None


@pytest.mark.parametrize(
    ("use", "says"),
    [
        ("spikes", "names no model; write `file.py:name`"),
        ("models_for_test.py:spikes", r"no file .*models_for_test.py; .*did you mean `models_for_tests.py`"),
        ("models_for_tests.py:spike", "unknown model `spike`; did you mean `spikes`"),
        ("models_for_tests.py:plain", "is a plain function; put @trackside.model above it"),
        ("models_for_tests.py:NotAModel", "does not derive from trackside.Model"),
        ("models_for_tests.py:Silent", "Silent scores nothing: write `update"),
        ("models_for_tests.py:INSTANCE", "is an instance; name the class"),
        ("models_for_tests.py:HERE", "unknown model `HERE`"),
        ("no_such_package.models:X", r"no module `no_such_package` in this environment \(.*python"),
    ],
)
def test_a_wrong_name_is_explained(use, says):
    with pytest.raises(ModelError, match=says):
        find(use, HERE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_thing\n", r"model.py does not import: ModuleNotFoundError.*-m pip install no_such_thing"),
        ("def f(:\n", "model.py does not import, line 1: SyntaxError"),
        ("raise SystemExit(4)\n", "model.py does not import: SystemExit: 4"),
        ("1 / 0\n", "does not import: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_does_not_import_is_explained(tmp_path, text, says):
    (tmp_path / "model.py").write_text(text)
    with pytest.raises(ModelError, match=says):
        find("model.py:x", tmp_path)


def test_a_model_file_imports_its_neighbour_and_may_have_a_librarys_name(tmp_path):
    (tmp_path / "neighbour_of_json.py").write_text("LIMIT = 5\n")
    (tmp_path / "json.py").write_text(
        "import trackside as ts\nfrom neighbour_of_json import LIMIT\n"
        "@ts.model(field='value')\ndef above(b):\n    return b['value'] > LIMIT\n"
    )
    assert find("json.py:above", tmp_path).settings.field == "value"
    import json

    assert json.loads("1") == 1


def test_a_file_is_read_again_when_it_changed(tmp_path):
    head = "import trackside as ts\n"
    for version in ("1", "2"):
        text = f"{head}@ts.model(field='v', version='{version}')\ndef m(b):\n    return b['v'] # {'x' * int(version)}\n"
        (tmp_path / "again.py").write_text(text)
        assert make(find("again.py:m", tmp_path), {}, (), ()).version == version


def test_options_and_fields_are_checked():
    target = find("models_for_tests.py:Running", HERE)
    model = make(target, {"scale": 2}, ("other",), ("device",))
    assert (model.fields, model.tags, model.scale) == (("other",), ("device",), 2)
    with pytest.raises(ModelError, match=re.escape("unknown option `sclae`; did you mean `scale`")):
        make(target, {"sclae": 2}, (), ())
    with pytest.raises(ModelError, match='write `field = "value"`'):
        make(ts.model(lambda b: b), {}, (), ())
