"""Printing a log page by page ends, whatever the agent answers."""

from __future__ import annotations

import itertools

import pytest

from fuseml_core.cli.logs import print_growing
from fuseml_core.domain.errors import Failed


class Pages:
    """Answers with pages, one after the other."""

    def __init__(self, pages):
        self.pages, self.asked = iter(pages), 0

    def get(self, *_path, query, patience):
        self.asked += 1
        return next(self.pages)


def page(text, cursor, **more):
    return {"text": text, "cursor": cursor, "complete": False, **more}


def test_a_log_that_goes_back_to_where_it_was_is_told_and_ends(capsys):
    client = Pages(itertools.cycle([page("a\n", "1"), page("b\n", "2")]))
    with pytest.raises(Failed, match="repeats it without end"):
        print_growing(client, ("logs",), {}, following=False)
    assert client.asked == 3
    assert capsys.readouterr().out.startswith("a\nb\n")


def test_a_program_that_prints_the_same_line_again_is_shown_whole(capsys):
    client = Pages([*(page("tick\n", str(number)) for number in range(50)), {**page("", "50"), "complete": True}])
    print_growing(client, ("logs",), {}, following=True)
    assert capsys.readouterr().out == "tick\n" * 50
