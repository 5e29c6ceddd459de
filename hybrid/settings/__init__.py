"""`hybrid.toml` and `HYBRID_*` -> frozen `Settings`. The only reader of the environment.

What is later in this list wins: the defaults, the file, the environment, the configuration of an app that embeds
hybrid, the options of the command line. A key that is not known, a value of the wrong type and two keys that contradict
each other are all refused with one sentence that names the key and says what is accepted: a server that starts has
understood everything it was told.

`settings_page.describe()` writes `docs/settings.md` from what stands here.
"""

from hybrid.settings.environment import (
    ClientEnvironment,
    ServiceEnvironment,
    client_environment,
    service_environment,
    tell_environment,
    worker_environment,
)
from hybrid.settings.hooks import HooksSettings
from hybrid.settings.issuer import ALGORITHMS, GrantSettings, IssuerSettings
from hybrid.settings.load import ENVIRONMENT_PREFIX, FILE_NAME, NOT_SETTINGS, load
from hybrid.settings.namespace import Access, Namespace
from hybrid.settings.server import BROKER_SCHEMES, SECRET_MIN_CHARACTERS, Settings
from hybrid.settings.words import host_in_url, is_loopback

__all__ = [
    "ALGORITHMS",
    "BROKER_SCHEMES",
    "ENVIRONMENT_PREFIX",
    "FILE_NAME",
    "NOT_SETTINGS",
    "SECRET_MIN_CHARACTERS",
    "Access",
    "ClientEnvironment",
    "GrantSettings",
    "HooksSettings",
    "IssuerSettings",
    "Namespace",
    "ServiceEnvironment",
    "Settings",
    "client_environment",
    "host_in_url",
    "is_loopback",
    "load",
    "service_environment",
    "tell_environment",
    "worker_environment",
]
