"""A small part of ``make fuzz``: random sound histories verify, and whatever is changed behind them is found."""

import itertools

import pytest

from infra.keys import Keys
from infra.spilled_mapping import SpilledMapping
from infra.tables import metadata
from tests.fuzz_ledger import search, sqlite_urls
from tests.ledger_tampers import UNSPOKEN

SEED = 1_000_000


@pytest.fixture
def keys(tmp_path):
    return Keys.create(tmp_path / "keys")


def test_every_tamper_is_found_and_no_sound_history_raises_an_alarm(keys, tmp_path):
    outcome = search(sqlite_urls(tmp_path), keys, cases=200, seed=SEED)
    assert (outcome.missed, outcome.alarms) == ([], [])
    assert outcome.tampers.total() == 200
    assert outcome.clean >= 200


def test_the_same_where_no_more_than_one_row_is_held_in_memory(keys, tmp_path, monkeypatch):
    monkeypatch.setattr("infra.record_verification.SpilledMapping", lambda: SpilledMapping(max_in_memory=1))
    outcome = search(sqlite_urls(tmp_path), keys, cases=80, seed=SEED + 100)
    assert (outcome.missed, outcome.alarms) == ([], [])
    assert outcome.tampers.total() == 80


def test_the_same_on_postgresql(keys, postgres):
    made = []

    def urls():
        for _ in itertools.count():
            made.append(postgres.create_database())
            yield made[-1]

    try:
        outcome = search(urls(), keys, cases=40, seed=SEED)
    finally:
        for url in made:
            postgres.drop_database(url)
    assert (outcome.missed, outcome.alarms) == ([], [])
    assert outcome.tampers.total() == 40


def test_what_no_entry_speaks_of_is_there_and_has_a_reason():
    for (table, column), reason in UNSPOKEN.items():
        assert column in metadata.tables[table].columns
        assert reason
