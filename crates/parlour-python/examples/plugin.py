"""A plug-in for a host in Rust, which starts it with a connection that has no name.

Run `cargo run -p parlour --example plugin_host -- python crates/parlour-python/examples/plugin.py`. Each request is a
line of text: the name of a function and its argument. The answer is `ok RESULT`, or `error TEXT`. What this prints to
stdout does not disturb the conversation.
"""

from collections.abc import Callable

import parlour

FUNCTIONS: dict[str, Callable[[str], str]] = {
    "upper": str.upper,
    "reverse": lambda text: text[::-1],
    "count": lambda text: str(len(text.split())),
}


def answer(request: str) -> str:
    name, _, argument = request.partition(" ")
    function = FUNCTIONS.get(name)
    return f"ok {function(argument)}" if function else f"error there is no function {name!r}"


def main() -> None:
    with parlour.from_env() as host:
        host.send(" ".join(FUNCTIONS).encode())
        for request in host:
            host.send(answer(request.decode()).encode())


if __name__ == "__main__":
    main()
