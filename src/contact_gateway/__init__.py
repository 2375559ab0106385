"""A GraphQL and REST gateway that adds contact creation to HiEnergy."""

from importlib.metadata import version

__version__ = version("contact-gateway")
