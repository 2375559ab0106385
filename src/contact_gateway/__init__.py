"""A gateway that creates HiEnergy's contacts over GraphQL, REST and MCP."""


def __getattr__(name: str) -> str:
    """Return `__version__`. Reading it takes longer than all of a health check."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415 - slow to import

    return version("contact-gateway")
