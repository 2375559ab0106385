"""`python -m contact_gateway` runs `contact-gateway`."""

from contact_gateway.cli import main

main(prog_name="contact-gateway")
