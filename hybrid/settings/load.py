"""`hybrid.toml` and `HYBRID_*` -> `Settings`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from hybrid.limits import Limits
from hybrid.settings.convert import Text, check_known, convert_all, split_list, table_of
from hybrid.settings.hooks import HooksSettings
from hybrid.settings.issuer import GrantSettings, IssuerSettings
from hybrid.settings.namespace import Namespace
from hybrid.settings.server import Settings
from hybrid.settings.words import is_loopback, refusal

FILE_NAME: Final = "hybrid.toml"
"""Read from the working directory when neither `--settings` nor `HYBRID_SETTINGS` names another file."""
ENVIRONMENT_PREFIX: Final = "HYBRID_"
NOT_SETTINGS: Final = frozenset({"HYBRID_SETTINGS", "HYBRID_URL", "HYBRID_TOKEN"})
"""Variables with the prefix that are no settings of a server: the file's name, and what the client commands use."""


_TABLES: Final = ("limits", "namespaces", "hooks")


def load(
    path: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    fill_in_issuer: bool = False,
    needs_issuer: bool = True,
) -> Settings:
    """Read the file, then the environment, then `config`, then `overrides` (fields of Settings by name).

    `path` None reads the file that `HYBRID_SETTINGS` names, else `hybrid.toml` where there is one; a file that was
    named must exist. `environ` None is this process's own. `config` is the configuration of an application: names of
    the environment, whose values may be text or of their own types, tables as dictionaries; other names are not looked
    at. With `fill_in_issuer`, a server without any issuer that is bound to loopback gets the development issuer, unless
    it was told `development_issuer = false`. Without `needs_issuer` it may have none. Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    tree = _read_file(path, environ)
    _merge_environment(tree, environ, "The environment variable")
    if config is not None:
        _merge_environment(tree, config, "The key of the application's configuration")
    for key, value in (overrides or {}).items():
        tree[key] = value
    settings = _build(tree)
    if settings.issuers or settings.development_issuer or not needs_issuer:
        return settings
    if fill_in_issuer and "development_issuer" not in tree and is_loopback(settings.host):
        return replace(settings, development_issuer=True)
    raise refusal(
        'No issuer is configured: name one with url = "https://..." in a table [[issuers]], or set '
        "development_issuer = true on a loopback address."
    )


def _read_file(path: str | None, environ: Mapping[str, str]) -> dict[str, Any]:
    named = path or environ.get("HYBRID_SETTINGS")
    name = named or FILE_NAME
    try:
        with open(name, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if named is None:
            return {}
        raise refusal(f"The settings file {name} does not exist.") from None
    except OSError as error:
        raise refusal(f"The settings file {name} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise refusal(f"The settings file {name} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise refusal(f"The settings file {name} is not valid TOML: {error}.") from None
    except (ValueError, RecursionError):
        raise refusal(f"The settings file {name} has a number that is too long, or is nested too deep.") from None


def _merge_environment(tree: dict[str, Any], environ: Mapping[str, Any], what: str) -> None:
    """Put `HYBRID_PORT` and its like into the tree, text as what `_convert` understands; `what` is for refusals."""
    plain = {item.name.upper(): item.name for item in fields(Settings) if item.name not in _TABLES}
    limits = {item.name.upper(): item.name for item in fields(Limits)}
    hooks = {item.name.upper(): item.name for item in fields(HooksSettings)}
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        rest, value = variable.removeprefix(ENVIRONMENT_PREFIX), environ[variable]
        text = Text(value, variable) if isinstance(value, str) else value
        if rest == "ISSUERS" and isinstance(value, str):
            tree["issuers"] = [{"url": url} for url in split_list(value)]
        elif rest in plain:
            tree[plain[rest]] = text
        elif rest in ("LIMITS", "HOOKS", "NAMESPACES") and not isinstance(value, str):
            _merge_table(tree, rest.lower(), value, variable)
        elif rest.startswith("LIMITS_") and rest.removeprefix("LIMITS_") in limits:
            table_of(tree, "limits")[limits[rest.removeprefix("LIMITS_")]] = text
        elif rest.startswith("HOOKS_") and rest.removeprefix("HOOKS_") in hooks:
            table_of(tree, "hooks")[hooks[rest.removeprefix("HOOKS_")]] = text
        elif rest.startswith("NAMESPACES_"):
            _merge_namespace(tree, variable, rest.removeprefix("NAMESPACES_"), text, what)
        else:
            raise refusal(f"{what} {variable} is no setting; docs/settings.md lists them all.")


def _merge_table(tree: dict[str, Any], key: str, value: Any, variable: str) -> None:
    """A dictionary on top of a table, one level deep for namespaces: `{"chat": {"history_size": 500}}`."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise refusal(f"{variable} must be a dictionary.")
    table = table_of(tree, key)
    for name, options in value.items():
        if key == "namespaces" and isinstance(options, Mapping):
            table_of(table, name, "namespaces.").update(options)
        else:
            table[name] = options


def _merge_namespace(tree: dict[str, Any], variable: str, rest: str, text: Any, what: str) -> None:
    """`CHAT_HISTORY_SIZE` -> namespaces.chat.history_size; a name in the file is found whatever its case and dashes."""
    for key in sorted((item.name for item in fields(Namespace) if item.name != "name"), key=len, reverse=True):
        if rest.endswith(f"_{key.upper()}"):
            spelled = rest.removesuffix(f"_{key.upper()}")
            namespaces = table_of(tree, "namespaces")
            known = {name.upper().replace("-", "_").replace(".", "_"): name for name in namespaces}
            name = known.get(spelled, spelled.lower())
            table_of(namespaces, name, "namespaces.")[key] = text
            return
    raise refusal(f"{what} {variable} names no option of a namespace; docs/settings.md lists them.")


def _build(tree: dict[str, Any]) -> Settings:
    values = dict(tree)
    check_known(values, Settings, "")
    if "limits" in values and not isinstance(values["limits"], Limits):
        table = table_of(tree, "limits")
        check_known(table, Limits, "limits.")
        values["limits"] = Limits(**convert_all(table, Limits, "limits."))
    if "hooks" in values and not isinstance(values["hooks"], HooksSettings):
        table = table_of(tree, "hooks")
        check_known(table, HooksSettings, "hooks.")
        values["hooks"] = HooksSettings(**convert_all(table, HooksSettings, "hooks."))
    if "namespaces" in values:
        values["namespaces"] = {
            name: table
            if isinstance(table, Namespace)
            else _build_namespace(name, table_of(values["namespaces"], name, "namespaces."))
            for name, table in table_of(tree, "namespaces").items()
        }
    if "issuers" in values:
        values["issuers"] = tuple(_build_issuers(values["issuers"]))
    rest = {key: value for key, value in values.items() if key not in ("limits", "namespaces", "issuers", "hooks")}
    return Settings(**{**values, **convert_all(rest, Settings, "")})


def _build_namespace(name: str, table: Any) -> Namespace:
    where = f"namespaces.{name}."
    check_known(table, Namespace, where, without=("name",))
    return Namespace(name=name, **convert_all(table, Namespace, where))


def _build_issuers(tables: Any) -> Iterable[IssuerSettings]:
    if not isinstance(tables, (list, tuple)):
        raise refusal("issuers must be tables written [[issuers]], each with a url.")
    for table in tables:
        if isinstance(table, IssuerSettings):
            yield table
            continue
        if not isinstance(table, dict):
            raise refusal("issuers must be tables written [[issuers]], each with a url.")
        check_known(table, IssuerSettings, "issuers.")
        if "url" not in table:
            raise refusal("issuers: a table [[issuers]] needs a url.")
        rest = {key: value for key, value in table.items() if key != "grants"}
        grants = tuple(_build_grants(table.get("grants", ())))
        yield IssuerSettings(**convert_all(rest, IssuerSettings, "issuers."), grants=grants)


def _build_grants(tables: Any) -> Iterable[GrantSettings]:
    if not isinstance(tables, (list, tuple)) or not all(isinstance(table, dict) for table in tables):
        raise refusal("issuers.grants must be tables written [[issuers.grants]], below their [[issuers]].")
    for table in tables:
        check_known(table, GrantSettings, "issuers.grants.")
        yield GrantSettings(**convert_all(table, GrantSettings, "issuers.grants."))
