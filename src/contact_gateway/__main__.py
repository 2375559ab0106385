"""`python -m contact_gateway` runs `contact-gateway`."""

from contact_gateway.cli import run

run()
