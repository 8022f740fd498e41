"""docs/vocabulary.md names every variable of the environment that the project reads."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/vocabulary.md").read_text()


def test_every_variable_of_ours_has_a_line():
    sources = [*ROOT.glob("inspo_core/**/*.py"), *ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py"), ROOT / "Dockerfile"]
    used = set(re.findall(r"\bINSPO_[A-Z_]+\b", "".join(path.read_text() for path in sources)))
    assert used and used == set(re.findall(r"`(INSPO_[A-Z_]+)`", PAGE))


def test_no_word_has_two_lines():
    words = [
        word.strip() for cell in re.findall(r"^\| ([a-z][^|`]*) \|", PAGE, re.MULTILINE) for word in re.sub(r"\(.*?\)", "", cell).split(",")
    ]
    assert len(words) > 40 and len(words) == len(set(words))
