"""uvicorn still has the undocumented names that `contact_gateway.server` relies on.

If a test fails after an upgrade, read the named class in the new version and adapt the server. Then
raise the upper bound of uvicorn in pyproject.toml.
"""

import inspect

import pytest
import uvicorn
from sse_starlette.sse import AppStatus
from starlette.responses import PlainTextResponse

from contact_gateway.server.protocol import HttpProtocol

METHODS: dict[type, dict[str, list[str]]] = {
    uvicorn.Server: {
        "__init__": ["config"],
        "startup": ["sockets"],
        "run": ["sockets"],
        "capture_signals": [],
        "handle_exit": ["sig", "frame"],
        "on_tick": ["counter"],
        "shutdown": ["sockets"],
    },
}
# Importing sse_starlette, as the MCP SDK does, replaces this method. The gateway overrides it.
REPLACED = {"handle_exit": AppStatus.original_handler}


def _changed(name: str) -> str:
    return f"uvicorn {uvicorn.__version__} has changed {name}, on which the server relies"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        pytest.param(owner, name, id=f"{owner.__name__}.{name}")
        for owner, methods in METHODS.items()
        for name in methods
    ],
)
def test_a_method_has_its_parameters(owner: type, name: str) -> None:
    method = REPLACED.get(name) or getattr(owner, name, None)

    assert method is not None, _changed(f"{owner.__name__}.{name}")
    parameters = [*inspect.signature(method).parameters][1:]
    assert parameters == METHODS[owner][name], _changed(f"{owner.__name__}.{name}")


@pytest.mark.anyio
async def test_a_server_has_its_attributes() -> None:
    config = uvicorn.Config(
        PlainTextResponse("fine"), http=HttpProtocol, port=0, lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    config.load()
    assert config.loaded_app is not None, _changed("Config.loaded_app")
    assert config.http_protocol_class is HttpProtocol, _changed("Config.http_protocol_class")
    server.lifespan = config.lifespan_class(config)
    await server.startup()

    for name in ("servers", "server_state", "started", "should_exit"):
        assert hasattr(server, name), _changed(f"Server.{name}")
    for name in ("connections", "tasks", "default_headers"):
        assert hasattr(server.server_state, name), _changed(f"ServerState.{name}")
    assert hasattr(server.lifespan, "state"), _changed("Lifespan.state")
    await server.shutdown()
