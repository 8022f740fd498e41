"""What is printed or kept holds no secret, however a secret is written."""

import json
import sys
from urllib.parse import quote, quote_plus

import pytest

from inspo_core.errors import InspoError
from inspo_core.provenance import origin
from inspo_core.redaction import holds_secret, is_secret, redact, shown

MARK = "s3cretmark"
PASSWORDS = [
    MARK,
    f"{MARK}/x",
    f"a/{MARK}",
    f"{MARK}'{MARK}",
    f'"{MARK}"',
    f"a {MARK} {MARK}",
    f"{MARK}@{MARK}",
    f"{MARK}?{MARK}#{MARK}",
    f"1/{MARK}",
]
QUERIES = ["token", "password", "X-Amz-Signature", "sig"]
SCHEMES = ["http", "https", "postgresql+psycopg2", "s3", "ftp"]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_address_is_shown_without_its_password(scheme, password):
    assert shown(f"{scheme}://me:{password}@host:9/place?token={MARK}#{MARK}") == f"{scheme}://host:9/place"


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_address_in_a_sentence_loses_its_password_and_nothing_else(scheme, password):
    said = redact(f"cannot reach {scheme}://me:{password}@host:9/place (refused); see https://other.example/page")
    assert said == f"cannot reach {scheme}://***@host:9/place (refused); see https://other.example/page"


@pytest.mark.parametrize("name", QUERIES)
def test_queries_are_dropped(name):
    assert shown(f"https://host/place?{name}={MARK}") == "https://host/place"
    assert redact(f"no 'https://host/place?a=b&{name}={MARK}' there") == "no 'https://host/place' there"


def test_a_value_under_a_secrets_name_is_hidden():
    said = redact(f"url: /bucket?X-Amz-Signature={MARK}&a=b (password='{MARK} {MARK}', host=h) MY_API_KEY={MARK}")
    assert said == "url: /bucket?X-Amz-Signature=***&a=b (password=***, host=h) MY_API_KEY=***"
    profile = {"secret_access_key": f"{MARK}\" '{MARK}", "features": "2"}
    assert json.loads(redact(json.dumps(profile))) == {"secret_access_key": "***", "features": "2"}
    assert redact(str(profile)) == "{'secret_access_key': '***', 'features': '2'}"


@pytest.mark.parametrize("password", PASSWORDS)
def test_what_the_process_was_given_is_hidden_wherever_it_stands(password, monkeypatch):
    def check() -> None:
        for text in (password, quote(password), quote_plus(password), f'Invalid bucket name "me:{password}@bucket"', f"port {password}"):
            assert MARK not in redact(f"{text}: refused")

    monkeypatch.setenv("INSPO_STORE", f"s3://me:{password}@bucket")
    check()
    monkeypatch.delenv("INSPO_STORE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", password)
    check()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for argument in (f"https://me:{password}@host/x", f"--repo=https://me:{quote(password, safe='')}@host", f"db.password={password}"):
        monkeypatch.setattr(sys, "argv", ["command", argument])
        check()


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8888 cannot be reached: timed out; write to me@example.org",
        "git@github.com:me/data.git at main",
        "sqlite:////tmp/a@b/mlflow.db",
        "file:///data@v1/store is missing",
        "the token is no longer good: set KF_PIPELINES_TOKEN",
        "registry.example.org/inspo@sha256:0123",
        "https://[::1]:5000/x and (http://host:80), 'http://host:80': no",
        "is that all? yes: https://host/place",
    ],
    ids=range(8),  # pytest puts them into the environment, of which every address counts
)
def test_what_is_no_secret_stays(text, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", "/tmp/a@b/mlflow.db")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "missing")
    assert redact(text) == text


def test_an_address_that_was_cut_short_keeps_its_password_to_itself():
    assert redact(f"found 'https://me:{MARK}/longer...") == "found 'https://***"


def test_errors_hold_no_secret():
    assert str(InspoError(f"no https://me:{MARK}/x@host")) == "no https://***@host"


def test_a_command_is_noted_without_secrets(monkeypatch):
    words = ["python", "-m", "x", "--set", f"a=https://me:{MARK}'/ {MARK}@host", f"--set=password={MARK}' {MARK}"]
    monkeypatch.setattr(sys, "argv", words)
    command = origin(words)["command"]
    assert MARK not in command and command.startswith("python -m x --set 'a=https://***@host'")


@pytest.mark.parametrize("text", ["ssh://git@host/x", "git@host:x", "https://host:80/x?page=2", "s3://bucket/x", "TOKEN=x", "file:///a@b"])
def test_addresses_without_a_secret_are_not_refused(text):
    assert not holds_secret(text)


@pytest.mark.parametrize("text", ["https://me@host", "a=ssh://me:p/w@host", "https://host?a=b&sig=x", "s3://KEY:p w@bucket"])
def test_addresses_with_a_secret_are_found(text):
    assert holds_secret(text)


def test_the_path_of_a_secret_is_none():
    assert is_secret("MY_TOKEN") and is_secret("aws_secret_access_key")
    assert not (is_secret("KF_PIPELINES_SA_TOKEN_PATH") or is_secret("AWS_WEB_IDENTITY_TOKEN_FILE") or is_secret("TOKENIZERS_PARALLELISM"))
