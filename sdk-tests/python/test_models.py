"""Models over the SDK: api.md §22."""

import anthropic
import pytest

import kit


def test_the_iterator_crosses_pages_and_gives_each_model_once(client):
    page = client.beta.models.list(limit=3)
    assert len(page.data) == 3 and page.has_more and page.last_id == page.data[-1].id
    ids = [model.id for model in client.beta.models.list(limit=3)]
    assert len(ids) == len(set(ids)) > 3 and kit.MODEL in ids


def test_a_page_before_another(client):
    ids = [model.id for model in client.beta.models.list(limit=100)]
    before = client.beta.models.list(before_id=ids[3], limit=2)
    assert [model.id for model in before.data] == ids[1:3]


def test_a_model_is_found_by_id_and_a_stranger_is_not(client):
    found = client.beta.models.retrieve(kit.MODEL)
    assert found.id == kit.MODEL and found.type == "model" and found.display_name
    assert client.models.retrieve(kit.MODEL).id == kit.MODEL
    with pytest.raises(anthropic.NotFoundError):
        client.beta.models.retrieve("no-such-model")
