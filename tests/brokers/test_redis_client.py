"""The settings that reach the connection."""

import pytest

from bridge import settings
from bridge.brokers.redis_client import connect

URL = "redis://of-the-url:in-the-url@localhost:6379/0"


@pytest.mark.parametrize(
    ("given", "username", "password"),
    [
        ({}, "of-the-url", "in-the-url"),
        ({"password": "own"}, "of-the-url", "own"),
        ({"username": "bridge", "password": "own"}, "bridge", "own"),
    ],
)
def test_user_and_password_of_the_settings_go_before_those_in_the_url(
    given: dict[str, str], username: str, password: str
) -> None:
    client = connect(settings.Redis.model_validate({"url": URL, **given}))
    used = client.connection_pool.connection_kwargs
    assert (used["username"], used["password"]) == (username, password)
