"""How every command begins and ends."""

import sys

import pytest

from inspo_core.command import Parser, run


@pytest.mark.parametrize(
    "wrong", [["--raw=https://me:s3cret/mark@host"], ["https://me:s3cret mark@host"], ["--seeds", "token=s3cret mark"]]
)
def test_an_option_that_is_not_known_is_repeated_without_its_secret(wrong, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command", *wrong])
    parser = Parser(prog="command")
    parser.add_argument("--seeds", type=int)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "***" in said and "s3cret" not in said and "mark" not in said


def test_a_place_that_cannot_be_used_is_named_without_its_secret(capsys):
    def main() -> None:
        open("https://me:s3cret/mark@host/file")

    with pytest.raises(SystemExit) as ended:
        run(main)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("error: cannot use https://***@host/file: ") and "s3cret" not in said
