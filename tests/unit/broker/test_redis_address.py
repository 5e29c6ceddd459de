"""The URL of a Redis broker: what it means, and what each mistake is told. No refusal shows a password."""

from __future__ import annotations

import pytest

from hybrid.broker.redis.address import Address, parse_address
from hybrid.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", Address("single", (("localhost", 6379),))),
        ("valkey://localhost:7000/2", Address("single", (("localhost", 7000),), options={"db": 2})),
        (
            "rediss://ann:p%40ss%3A@[::1]:7000/0?ca=/etc/ca.pem",
            Address(
                "single",
                (("::1", 7000),),
                True,
                options={"username": "ann", "password": "p@ss:", "ssl_ca_certs": "/etc/ca.pem"},
                sentinel_options={"ssl_ca_certs": "/etc/ca.pem"},
            ),
        ),
        (
            "redis+sentinel://:secret@a,b:26380/main/3?sentinel_password=other",
            Address(
                "sentinel",
                (("a", 26379), ("b", 26380)),
                primary="main",
                options={"password": "secret", "db": 3},
                sentinel_options={"password": "other"},
            ),
        ),
        ("redis+cluster://a:7000,b:7001", Address("cluster", (("a", 7000), ("b", 7001)))),
        ("valkeys+cluster://a", Address("cluster", (("a", 6379),), True)),
    ],
)
def test_what_a_url_means(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis:localhost", "form"),
        ("redis://", "form"),
        ("redis://user:hunter2@", "host"),
        ("redis+pool://user:hunter2@a", "form"),
        ("redis://:hunter2@a,b", "several hosts"),
        ("redis://:hunter2@a:0", "port"),
        ("redis://:hunter2@a:70000", "port"),
        ("redis://:hunter2@::1", "IPv6"),
        ("redis://:hunter2@a/x", "number of a database"),
        ("redis://:hunter2@a/1/2", "number of a database"),
        ("redis+sentinel://:hunter2@a", "name the primary"),
        ("redis+cluster://:hunter2@a/1", "database"),
        ("redis://:hunter2@a?timeout=3", "known are ca"),
        ("rediss://:hunter2@a?ca=", "empty"),
        ("redis://:hunter2@a?ca=/etc/ca.pem", "rediss"),
        ("redis://:hunter2@a?sentinel_password=x", "redis+sentinel"),
    ],
)
def test_what_a_mistake_is_told(url: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_address(url)
    assert why in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:hunter2@a/1",
        "redis+sentinel://:hunter2@a/main?sentinel_password=hunter2",
        "redis+cluster://:hunter2@a",
    ],
)
def test_passwords_are_not_shown(url: str) -> None:
    address = parse_address(url)
    assert "hunter2" not in f"{address} {address!r}"
