"""What a script that refuses its input looks like."""

from __future__ import annotations


def assert_refused(outcome, *fragments):
    code, _, err = outcome
    lines = [line for line in err.splitlines() if not line.startswith(("downloading ", "reading "))]
    assert code == 2, err
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for fragment in fragments:
        assert fragment in lines[0]
