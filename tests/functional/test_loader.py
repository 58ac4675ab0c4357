"""Salt's loaders find every module of this project, and none of Salt's own is hidden."""

import inspect

import pytest
import salt.config
import salt.loader
import salt.output
import salt.runner

from tests.support import ROOT, load

MODULES = sorted(path.stem for path in (ROOT / "_modules").glob("*.py"))
STATES = sorted(path.stem for path in (ROOT / "_states").glob("*.py"))
UTILS = sorted(path.stem for path in (ROOT / "_utils").glob("*.py"))


def names(loaded):
    return {function.split(".")[0] for function in loaded}


def public(path):
    """List a file's public functions."""
    module = load(path)
    return {
        name: function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
    }


def test_every_module_state_and_util_is_loaded(minion, modules):
    opts = minion()
    functions = modules(opts)
    utils = salt.loader.utils(opts)
    states = salt.loader.states(opts, functions, utils, None)
    assert set(MODULES) <= names(functions)
    assert set(STATES) <= names(states)
    assert set(UTILS) <= names(utils)


def test_no_module_or_state_takes_a_name_of_salt_s_own(minion, modules):
    opts = {**minion(), "module_dirs": []}
    functions = modules(opts)
    own = names(functions) | names(salt.loader.states(opts, functions, {}, None))
    assert own & {*MODULES, *STATES} == set()


@pytest.mark.parametrize(
    "path", [f"_modules/{name}.py" for name in MODULES] + ["_runners/rabbit_ha.py"]
)
def test_every_function_says_how_it_is_called_from_the_command_line(path):
    name = path.split("/")[1].removesuffix(".py")
    missing = [
        function
        for function, value in public(path).items()
        if "CLI Example:" not in (value.__doc__ or "") or f"{name}.{function}" not in value.__doc__
    ]
    assert missing == []


@pytest.mark.parametrize("path", [f"_states/{name}.py" for name in STATES])
def test_every_parameter_of_a_state_is_in_its_docstring(path):
    for function, value in public(path).items():
        parameters = inspect.signature(value).parameters
        lines = [line.strip().split(" :")[0] for line in value.__doc__.splitlines()]
        assert [name for name in parameters if name not in lines] == [], function


@pytest.mark.parametrize("path", [f"_states/{name}.py" for name in STATES])
def test_every_state_says_what_it_returns(path):
    silent = [name for name, value in public(path).items() if "Returns " not in value.__doc__]
    assert silent == []


def test_the_outputter_is_found_by_its_name():
    opts = {**salt.config.master_config(None), "module_dirs": [str(ROOT)]}
    data = {"verdict": {"result": True, "says": "all is well", "problems": []}}
    assert salt.output.string_format(data, "rabbit_ha", opts) == "OK: all is well"
