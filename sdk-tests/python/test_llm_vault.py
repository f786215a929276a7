"""An LLM vault decides where a session's model is and with which key it is asked."""

import json

import anthropic
import pytest

import kit

TOKEN = "sk-vault-0123456789"


def llm_vault(client, api, base_url, token=TOKEN, **metadata):
    fields = {
        "longhand.role": "llm",
        "longhand.harness": "native",
        "longhand.llm_base_url": base_url,
    } | metadata
    if api:
        fields["longhand.llm_api"] = api
    made = client.beta.vaults.create(display_name=kit.unique("llm"), metadata=fields)
    auth = {"type": "static_bearer", "token": token}
    credential = client.beta.vaults.credentials.create(made.id, auth=auth)
    return made.id, credential.id


@pytest.mark.parametrize(
    ("api", "suffix", "path", "header", "value"),
    [
        ("anthropic", "", "/v1/messages", "x-api-key", TOKEN),
        (None, "", "/v1/messages", "x-api-key", TOKEN),
        ("openai_chat", "/v1", "/v1/chat/completions", "authorization", f"Bearer {TOKEN}"),
    ],
)
def test_the_vaults_endpoint_is_asked_with_the_vaults_key(
    client, model, recorder, api, suffix, path, header, value
):
    record = recorder(model.url)
    vault, _ = llm_vault(client, api, record.url + suffix)
    made = kit.session(client, vault_ids=[vault])
    assert made.vault_ids == [vault]
    events = kit.say(client, made.id, kit.bash("echo from the sandbox"), {"echo_results": True})
    assert kit.results(events) == [(False, "from the sandbox")]
    assert "from the sandbox" in kit.said(events)[-1]
    assert [seen[:2] for seen in record.seen] == [("POST", path)] * 2
    for _, _, headers in record.seen:
        assert headers[header] == value
        assert "sk-scripted-default" not in json.dumps(headers), "the operator's key stays with the operator"


def test_the_agents_model_is_mapped_and_headers_are_added(client, model, recorder):
    record = recorder(model.url)
    vault, _ = llm_vault(
        client,
        "openai_chat",
        f"{record.url}/v1",
        **{
            "longhand.llm_model_map": json.dumps({kit.MODEL: "house-model"}),
            "longhand.llm_headers": json.dumps({"x-team": "blue"}),
        },
    )
    made = kit.session(client, vault_ids=[vault])
    task = kit.unique("task")
    kit.turn(client, made.id, kit.message(task))
    bodies = [r["body"] for r in model.requests() if task in json.dumps(r["body"])]
    assert [body["model"] for body in bodies] == ["house-model"]
    assert record.seen[0][2]["x-team"] == "blue"


def test_a_refused_key_is_named_by_header_and_source_and_never_shown(client, model):
    vault, credential = llm_vault(client, "anthropic", model.url, token="bad-key-0123456789")
    made = kit.session(client, vault_ids=[vault])
    events = kit.say(client, made.id, {"text": "never"})
    error = kit.of(events, "session.error")[0].error
    assert "x-api-key" in error.message and credential in error.message and vault in error.message
    assert "bad-key-0123456789" not in json.dumps([e.to_dict(mode="json") for e in kit.log(client, made.id)])
    assert events[-1].stop_reason.type == "retries_exhausted"
    good = {"type": "static_bearer", "token": TOKEN}
    client.beta.vaults.credentials.update(credential, vault_id=vault, auth=good)
    assert kit.said(kit.say(client, made.id, {"text": "now"})) == ["now"], "the next turn uses the new key"


def test_two_llm_vaults_are_one_too_many(client, model):
    one, _ = llm_vault(client, "anthropic", model.url)
    two, _ = llm_vault(client, "anthropic", model.url)
    with pytest.raises(anthropic.BadRequestError) as caught:
        kit.session(client, vault_ids=[one, two])
    assert one in caught.value.message and two in caught.value.message


def test_an_incomplete_llm_vault_is_refused_naming_the_key(client, model):
    whole = {"longhand.role": "llm", "longhand.harness": "native", "longhand.llm_base_url": model.url}
    for missing in ("longhand.llm_base_url",):
        half = {key: value for key, value in whole.items() if key != missing}
        made = client.beta.vaults.create(display_name="half", metadata=half)
        with pytest.raises(anthropic.BadRequestError, match=missing):
            kit.session(client, vault_ids=[made.id])
    keyless = client.beta.vaults.create(display_name="keyless", metadata=whole)
    with pytest.raises(anthropic.BadRequestError, match="static_bearer"):
        kit.session(client, vault_ids=[keyless.id])
    unknown, _ = llm_vault(client, "smoke_signals", f"{model.url}/v1")
    with pytest.raises(anthropic.BadRequestError, match="longhand.llm_api"):
        kit.session(client, vault_ids=[unknown])


def test_a_tenants_url_on_the_loopback_is_denied_unless_the_operator_lifts_it(launch, model):
    with launch(LONGHAND_EGRESS_ALLOW_PRIVATE=None).client() as client:
        vault, _ = llm_vault(client, "anthropic", model.url)
        made = kit.session(client, vault_ids=[vault])
        task = kit.unique("task")
        events = kit.turn(client, made.id, kit.message(task))
        assert "may not be dialled" in kit.of(events, "session.error")[0].error.message
        assert task not in json.dumps(model.requests())
        other = kit.session(client)
        assert kit.said(kit.say(client, other.id, {"text": "the operator's own is exempt"}))
