"""The package's optional extras, such as `postgresql`."""


def needs_extra(extra: str) -> str:
    """Return the end of a sentence about what needs an extra, with how to install it."""
    return (
        f"needs the extra `{extra}`; install 'contact-gateway[{extra}]', or run "
        f"`scripts/environment --no-dev --inexact --extra {extra}` in a clone"
    )
