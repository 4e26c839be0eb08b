"""The stubs and the types of the package."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import parlour
import pytest
from parlour import _parlour, aio

PACKAGE = Path(parlour.__file__).parent


def stubs() -> ast.Module:
    """Returns the statements of both files of stubs."""
    files = [ast.parse((PACKAGE / name).read_text()) for name in ("_parlour.pyi", "_parlour_looks.pyi")]
    return ast.Module([node for file in files for node in file.body], type_ignores=[])


# A parameter: its kind, its name, and its default, or `REQUIRED`.
Parameter = tuple[str, str, object]
REQUIRED = inspect.Parameter.empty


def parameters(function: ast.FunctionDef) -> list[Parameter]:
    """Returns the parameters that a stub states."""
    arguments = function.args
    found: list[Parameter] = []

    def add(kind: str, argument: ast.arg | None, default: ast.expr | None) -> None:
        if argument is not None:
            found.append((kind, argument.arg, REQUIRED if default is None else ast.literal_eval(default)))

    by_position = [("POSITIONAL_ONLY", argument) for argument in arguments.posonlyargs]
    by_position += [("POSITIONAL_OR_KEYWORD", argument) for argument in arguments.args]
    required: list[ast.expr | None] = [None] * (len(by_position) - len(arguments.defaults))
    for (kind, argument), default in zip(by_position, required + arguments.defaults, strict=True):
        add(kind, argument, default)
    add("VAR_POSITIONAL", arguments.vararg, None)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        add("KEYWORD_ONLY", argument, default)
    add("VAR_KEYWORD", arguments.kwarg, None)
    return [parameter for parameter in found if parameter[1] not in ("self", "cls")]


def real_parameters(function: Any) -> list[Parameter]:
    found = inspect.signature(function).parameters.values()
    parameters = [(parameter.kind.name, parameter.name, parameter.default) for parameter in found]
    return [parameter for parameter in parameters if parameter[1] not in ("self", "cls")]


def is_type_only(node: ast.stmt) -> bool:
    """Returns true for classes that exist for the type checker alone."""
    return isinstance(node, ast.ClassDef) and any(
        isinstance(base, ast.Name) and base.id in ("Protocol", "TypedDict", "ServerOptions", "ConnectOptions")
        for base in node.bases
    )


def test_the_stubs_have_every_name_of_the_module_and_no_other() -> None:
    stated = set()
    for node in stubs().body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not is_type_only(node):
            stated.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            stated.add(node.target.id)
    real = {name for name in vars(_parlour) if not name.startswith("__") or name == "__version__"}
    assert stated == real


def test_the_stubs_have_the_signature_of_every_function() -> None:
    functions = [node for node in stubs().body if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        assert parameters(function) == real_parameters(getattr(_parlour, function.name)), function.name


CLASSES = [node for node in stubs().body if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("node", CLASSES, ids=lambda node: node.name)
def test_the_stubs_have_every_method_with_its_signature(node: ast.ClassDef) -> None:
    if is_type_only(node):
        pytest.skip("it exists for the type checker alone")
    real = getattr(_parlour, node.name)
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    annotated = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
    attributes = {target.id for target in annotated if isinstance(target, ast.Name)}
    public = {name for name in vars(real) if not name.startswith("_")}
    assert {name for name in methods.keys() | attributes if not name.startswith("_")} == public
    for name, method in methods.items():
        if name.startswith("_"):
            assert hasattr(real, name) or name == "__buffer__", name
            continue
        is_property = any(isinstance(mark, ast.Name) and mark.id == "property" for mark in method.decorator_list)
        if is_property:
            assert inspect.isgetsetdescriptor(vars(real)[name]), name
        else:
            assert parameters(method) == real_parameters(getattr(real, name)), name


def test_everything_public_has_a_docstring() -> None:
    for module in (parlour, aio):
        assert module.__doc__
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.isclass(value) and not callable(value):
                continue
            assert value.__doc__, name
            if inspect.isclass(value) and value.__module__.startswith("parlour"):
                for member, attribute in vars(value).items():
                    if not member.startswith("_") and (callable(attribute) or inspect.isdatadescriptor(attribute)):
                        assert inspect.getdoc(attribute), f"{name}.{member}"


def test_the_document_names_every_option() -> None:
    document = (Path(__file__).resolve().parents[3] / "docs" / "python.md").read_text()
    classes = [node for node in stubs().body if isinstance(node, ast.ClassDef) and node.name.endswith("Options")]
    # docs/frames.md has those of pools.
    classes = [node for node in classes if node.name != "FramePoolOptions"]
    assert len(classes) == 6
    for node in classes:
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                assert re.search(rf"\b{item.target.id}\b", document), item.target.id


def test_the_package_passes_mypy_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    # mypy does not check a package where it is installed.
    copy = shutil.copytree(PACKAGE, tmp_path / "parlour", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(copy)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
