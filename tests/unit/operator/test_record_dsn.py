"""The database URL: limits are added, and no message gives the password away."""

import traceback

import pytest
from psycopg.conninfo import conninfo_to_dict

from llm_operator.record import InvalidDatabaseURL, Record
from llm_operator.record.dsn import conninfo

SECRET = "hunter2-canary"


def test_adds_limits_and_a_name() -> None:
    given = conninfo_to_dict(
        conninfo("postgresql://u:p%40ss@db.example:5433/llmb", application_name="llmb-operator")
    )
    assert given["host"] == "db.example"
    assert given["port"] == "5433"
    assert given["password"] == "p@ss"
    assert given["application_name"] == "llmb-operator"
    assert given["connect_timeout"] == "3"
    assert given["keepalives_idle"] == "15"
    assert given["tcp_user_timeout"] == "10000"


def test_what_the_url_says_wins() -> None:
    url = "postgresql://u@h/d?connect_timeout=9&application_name=mine&sslmode=verify-full"
    given = conninfo_to_dict(conninfo(url, application_name="llmb-operator"))
    assert given["connect_timeout"] == "9"
    assert given["application_name"] == "mine"
    assert given["sslmode"] == "verify-full"


def test_takes_key_value_pairs_too() -> None:
    given = conninfo_to_dict(conninfo("host=h dbname=d", application_name="x"))
    assert (given["host"], given["dbname"]) == ("h", "d")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        (f"mysql://u:{SECRET}@h/d", "no Postgres connection string"),
        (f"postgresql://u:{SECRET} x@h/d", "no Postgres connection string"),
        (f"postgresql://u:{SECRET}%zz@h/d", "no Postgres connection string"),
        (f"host=h {SECRET}", "no Postgres connection string"),
        (f"postgresql://u:p@{SECRET}@h/d", "%40"),
    ],
)
def test_refuses_without_quoting(url: str, message: str) -> None:
    with pytest.raises(InvalidDatabaseURL, match=message) as raised:
        conninfo(url, application_name="x")
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_record_refuses_a_bad_url_before_anything_runs() -> None:
    with pytest.raises(InvalidDatabaseURL):
        Record("postgresql://u:a b@h/d")
