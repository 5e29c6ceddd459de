"""Where an issuer that asks nobody for a password may listen."""

from __future__ import annotations

from ipaddress import ip_address

from hybrid.errors import SettingsError


def check_loopback(host: str, allow: bool) -> None:
    """Raise SettingsError if a server with the development issuer would listen beyond this machine.

    `host` is what it binds to: an address, a name or `unix:` and a path. `allow` is the flag that says so be it.
    """
    if allow or host.startswith("unix:") or host.lower() == "localhost":
        return
    try:
        is_loopback = ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_loopback = False  # a name can point anywhere, and no name at all means every interface
    if not is_loopback:
        raise SettingsError(
            detail=f"The development issuer gives a token to anybody who asks. It does not start on {host!r}: bind to "
            "127.0.0.1, or allow it in so many words."
        )
