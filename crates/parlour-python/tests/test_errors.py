"""The exceptions."""

from __future__ import annotations

import ast
import inspect
import os
from pathlib import Path

import parlour
import pytest
from parlour import _errors, _parlour


def classes() -> dict[str, type[parlour.Error]]:
    found = vars(_errors).items()
    return {
        name: value
        for name, value in found
        if inspect.isclass(value) and issubclass(value, parlour.Error) and value is not parlour.Error
    }


def test_each_kind_of_error_has_a_class() -> None:
    assert sorted(classes()) == sorted(_parlour.ERROR_KINDS)
    for name, value in classes().items():
        assert getattr(parlour, name) is value
        assert name in parlour.__all__
        assert value.kind == name
        assert value.__doc__


def test_each_class_is_also_one_of_python() -> None:
    assert issubclass(parlour.Error, OSError)
    expected = {
        parlour.TimedOut: TimeoutError,
        parlour.Disconnected: ConnectionResetError,
        parlour.Truncated: ConnectionError,
        parlour.NoServer: ConnectionRefusedError,
        parlour.Refused: ConnectionRefusedError,
        parlour.Denied: PermissionError,
        parlour.UnsafeDirectory: PermissionError,
        parlour.InvalidName: ValueError,
        parlour.InvalidOption: ValueError,
        parlour.MessageTooLong: ValueError,
        parlour.Unsupported: NotImplementedError,
    }
    for own, builtin in expected.items():
        assert issubclass(own, builtin), own


def test_an_error_tells_the_operation_the_object_and_the_next_step(base: Path) -> None:
    with pytest.raises(parlour.NoServer, match="cannot connect to 'nobody'") as caught:
        parlour.connect("nobody")
    assert caught.value.kind == "NoServer"
    assert caught.value.operation == "connect to"
    assert "nobody" in caught.value.object
    assert caught.value.holder is None
    with pytest.raises(ConnectionRefusedError):
        parlour.connect("nobody", wait=0.01)


def test_a_name_in_use_tells_its_holder(base: Path) -> None:
    with parlour.Server("room"), pytest.raises(parlour.NameInUse) as caught:
        parlour.Server("room")
    holder = caught.value.holder
    assert holder is not None
    assert (holder.pid, holder.uid) == (os.getpid(), os.getuid())
    assert holder.transports == ["unix"]
    assert "python" in holder.program
    assert holder == caught.value.holder


def test_options_are_checked(base: Path) -> None:
    with pytest.raises(parlour.InvalidName):
        parlour.Server("no/../name")
    with pytest.raises(parlour.InvalidOption, match="ring_size"):
        parlour.Server("room", ring_size=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        parlour.Server("room", colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        parlour.connect("room", colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="unknown transport"):
        parlour.Server("room", transports=["pigeon"])
    with pytest.raises(OverflowError):
        parlour.Server("room", connections_max=-1)
    with pytest.raises(ValueError, match="not a number"):
        parlour.connect("room", wait=float("nan"))
    assert not list(base.iterdir())


def test_none_stands_for_the_default_of_every_option(base: Path) -> None:
    hints = _options()
    with parlour.Server("room", **dict.fromkeys(hints["ServerOptions"])) as server:
        with parlour.connect("room", **dict.fromkeys(hints["ConnectOptions"])) as client:
            assert client.transport == "unix"
        assert server.transports == ["unix"]
    with parlour.Hub("room", **dict.fromkeys(hints["ServerOptions"] + hints["HubOptions"])) as hub:
        assert hub.transports == ["unix"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        parlour.Hub("room", colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="slow_client"):
        parlour.Hub("room", slow_client="wait")


def _options() -> dict[str, list[str]]:
    """Returns the options that the stubs name."""
    stubs = Path(parlour.__file__).with_name("_parlour.pyi").read_text()
    found = {}
    for node in ast.parse(stubs).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Options"):
            found[node.name] = [
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            ]
    return found
