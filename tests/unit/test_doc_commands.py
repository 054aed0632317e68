"""README and docs show no command that no test knows."""

from __future__ import annotations

from doc_commands import NOT_RUN, PAGES, RUN, RUN_ELSEWHERE, commands_of


def test_every_command_of_the_docs_is_run_or_said_not_to_be() -> None:
    shown = set().union(*(commands_of(page.read_text()) for page in PAGES))
    unknown = shown - {*RUN, *RUN_ELSEWHERE, *NOT_RUN}
    assert not unknown
    assert {"make demo", "make demo-down", "picluster lock --env lab"} <= shown
