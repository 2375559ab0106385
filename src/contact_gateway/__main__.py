"""`python -m contact_gateway` is `contact-gateway`."""

from contact_gateway.cli import main

main()
