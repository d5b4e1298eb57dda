"""Multiple-choice questions: letters, reasons, and the notebooks that ask them."""

import re

import pytest

from ldf_utils.notebook.choices import CHOICES, Choice, check_choice
from tools.notebook_files import NOTEBOOKS, read_notebook, tagged

ASKED = [
    (path.stem, notebook, cell, question)
    for path in sorted(NOTEBOOKS.glob("*.ipynb"))
    for notebook in [read_notebook(path)]
    for cell in tagged(notebook, "exercise")
    for question in re.findall(r"check_choice\(\w+, \"(.*?)\"\)", cell.source)
]


@pytest.mark.parametrize("question", CHOICES)
def test_every_answer_has_its_reason(question, capsys):
    choice = CHOICES[question]
    for letter, reason in choice.reasons.items():
        result = check_choice(f" {letter.upper()} ", question)
        printed = capsys.readouterr().out
        assert bool(result) == (letter == choice.right)
        assert reason in printed and printed.count(reason) == 1


@pytest.mark.parametrize("answer", ["e", "", "all", 2, ["a"], lambda: "a"])
def test_what_is_no_letter_of_the_list_is_said(answer):
    result = check_choice(answer, next(iter(CHOICES)))
    assert not result and "choose one letter, a, b, c or d, in quotes" in result.hint


def test_an_open_question_is_open(capsys):
    assert not check_choice(..., next(iter(CHOICES)))
    assert "three dots" in capsys.readouterr().out


def test_a_choice_without_its_right_answer_is_refused():
    with pytest.raises(ValueError, match="right must be one of a, b, got 'c'"):
        Choice("c", {"a": "one", "b": "two"})


def test_each_question_is_asked_once():
    questions = [question for *_, question in ASKED]
    assert sorted(questions) == sorted(CHOICES)


@pytest.mark.parametrize(("name", "notebook", "cell", "question"), ASKED, ids=lambda x: str(x)[:30])
def test_the_notebook_lists_the_answers_that_have_reasons(name, notebook, cell, question):
    above = notebook.cells[notebook.cells.index(cell) - 1].source
    listed = re.findall(r"^- \*\*(\w)\*\* ", above, flags=re.MULTILINE)
    assert listed == list(CHOICES[question].reasons), f"{name}: {question}"
