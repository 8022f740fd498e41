"""The ledger of what made which runs."""

import json

import pytest

from inspo_core.errors import InspoError
from inspo_core.provenance import origins_of, record_runs


def test_runs_are_found_under_what_made_them(tmp_path):
    ledger = tmp_path / "provenance.json"
    assert origins_of(ledger, ["a"]) == [(None, 1)]
    record_runs(ledger, ["a", "b"], ["python", "-m", "some.stage"])
    ((made, count), nothing) = origins_of(ledger, ["a", "b", "c"])
    assert made["command"] == "python -m some.stage" and count == 2 and nothing == (None, 1)


DAMAGES = [[], 5, {}, {"origins": []}, {"origins": [], "runs": []}, {"origins": [], "runs": {"a": 0}}, {"origins": [1], "runs": {}}]


@pytest.mark.parametrize("content", DAMAGES, ids=str)
def test_a_ledger_of_another_form_is_named(tmp_path, content):
    ledger = tmp_path / "provenance.json"
    ledger.write_text(json.dumps(content), encoding="utf-8")
    for use in (lambda: origins_of(ledger, ["a"]), lambda: record_runs(ledger, ["a"], ["x"])):
        with pytest.raises(InspoError, match=f"{ledger} is .*, expected a list of origins"):
            use()
    assert json.loads(ledger.read_text(encoding="utf-8")) == content
