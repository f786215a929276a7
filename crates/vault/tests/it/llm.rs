//! Which provider the vaults of a session choose, and what is wrong with those that choose none.

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::secret::Secret;
use contract::time::Micros;
use serde_json::value::RawValue;
use store::vaults::{CredentialKind, CredentialRow, VaultRow, VaultView};
use vault::Vault;
use vault::llm::{Api, Harness, LlmVault, LlmVaultError, resolve};
use vault::master::MasterKey;
use vault::secret::CredentialSecret;

fn id() -> VaultId {
    VaultId::from_bits(1)
}

fn key(n: u128) -> CredentialRow {
    let v = Vault::with(&MasterKey::from_bytes([1; 32]));
    let id = CredentialId::from_bits(n);
    let secret = CredentialSecret::token(Secret::new("sk-1".to_owned()));
    CredentialRow {
        id,
        vault: VaultId::from_bits(1),
        revision: 1,
        kind: CredentialKind::StaticBearer,
        slot: None,
        auth: RawValue::from_string("{}".to_owned()).expect("JSON"),
        display_name: None,
        metadata: [].into(),
        sealed: Some(v.seal_credential(WorkspaceId::Default, id, &secret)),
        created_at: Micros(0),
        updated_at: Micros(0),
        archived_at: None,
    }
}

fn view(metadata: &[(&str, &str)]) -> VaultView {
    VaultView {
        vault: VaultRow {
            id: id(),
            workspace: WorkspaceId::Default,
            revision: 1,
            display_name: "v".to_owned(),
            metadata: metadata
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            created_at: Micros(0),
            updated_at: Micros(0),
            archived_at: None,
        },
        credentials: vec![key(1)],
    }
}

const ROLE: (&str, &str) = ("longhand.role", "llm");
const NATIVE: (&str, &str) = ("longhand.harness", "native");
const URL: (&str, &str) = ("longhand.llm_base_url", "https://x.example/");

fn chosen(metadata: &[(&str, &str)]) -> LlmVault {
    resolve(&[view(metadata)]).expect("resolved").expect("one")
}

fn refused(metadata: &[(&str, &str)]) -> String {
    let error = resolve(&[view(metadata)]).expect_err("refused").to_string();
    assert!(
        error.contains(&id().to_string()),
        "names the vault: {error}"
    );
    error
}

#[test]
fn vaults_without_the_role_choose_nothing() {
    assert!(resolve(&[]).expect("fine").is_none());
    let credential = view(&[("sandbox0.managed_agents.role", "credential"), NATIVE]);
    assert!(
        resolve(&[view(&[("a", "b")]), credential])
            .expect("fine")
            .is_none()
    );
}

#[test]
fn the_dialect_follows_the_harness_unless_it_is_named() {
    for (harness, expected, api) in [
        ("native", Harness::Native, Api::Anthropic),
        ("claude", Harness::Claude, Api::Anthropic),
        ("codex", Harness::Codex, Api::OpenaiResponses),
    ] {
        let llm = chosen(&[ROLE, URL, ("longhand.harness", harness)]);
        assert_eq!((llm.harness, llm.api), (expected, api));
    }
    for (name, api) in [
        ("anthropic", Api::Anthropic),
        ("openai_responses", Api::OpenaiResponses),
        ("openai_chat", Api::OpenaiChat),
    ] {
        assert_eq!(
            chosen(&[ROLE, NATIVE, URL, ("longhand.llm_api", name)]).api,
            api
        );
    }
}

#[test]
fn the_seed_products_names_are_aliases() {
    let role = ("sandbox0.managed_agents.role", "llm");
    let url = (
        "sandbox0.managed_agents.llm_base_url",
        "http://10.0.0.1:8080/v1",
    );
    let llm = chosen(&[role, url, ("sandbox0.managed_agents.engine", "sandpi")]);
    assert_eq!((llm.harness, llm.api), (Harness::Native, Api::OpenaiChat));
    assert_eq!(llm.base_url, "http://10.0.0.1:8080/v1");
    let bare = chosen(&[role]);
    assert_eq!((bare.harness, bare.api), (Harness::Claude, Api::Anthropic));
    assert_eq!(bare.base_url, "https://api.anthropic.com");
    let codex = chosen(&[role, ("sandbox0.managed_agents.engine", "codex")]);
    assert_eq!(codex.base_url, "https://api.openai.com/v1");
}

#[test]
fn models_and_headers_are_read_from_their_json() {
    let llm = chosen(&[
        ROLE,
        NATIVE,
        URL,
        ("longhand.llm_model_map", r#"{"claude-x":"gpt-y"}"#),
        ("longhand.llm_headers", r#"{"X-Team":"a b"}"#),
    ]);
    assert_eq!(llm.base_url, "https://x.example");
    assert_eq!(llm.model("claude-x"), "gpt-y");
    assert_eq!(llm.model("other"), "other");
    assert_eq!(llm.headers.get("x-team").map(String::as_str), Some("a b"));
}

#[test]
fn what_is_missing_is_named() {
    assert!(refused(&[ROLE, NATIVE]).contains("`longhand.llm_base_url` is missing"));
}

#[test]
fn a_vault_that_names_no_harness_gets_ours() {
    let vault = chosen(&[ROLE, URL]);
    assert_eq!(
        (vault.harness, vault.api),
        (Harness::Native, Api::Anthropic)
    );
}

#[test]
fn what_is_wrong_is_named() {
    for (name, value) in [
        ("longhand.role", "LLM"),
        ("longhand.harness", "sandpi"),
        ("longhand.llm_api", "openai"),
        ("longhand.llm_base_url", "x.example"),
        ("longhand.llm_base_url", "file:///etc"),
        ("longhand.llm_base_url", "https://"),
        ("longhand.llm_base_url", "https://:80/"),
        ("longhand.llm_base_url", "https://me:pw@x.example"),
        ("longhand.llm_base_url", "https://x.example/?k=v"),
        ("longhand.llm_base_url", "https://x example"),
        ("longhand.llm_model_map", "[]"),
        ("longhand.llm_model_map", r#"{"a":1}"#),
        ("longhand.llm_model_map", r#"{"a":""}"#),
        ("longhand.llm_headers", "X-A: b"),
        ("longhand.llm_headers", r#"{"a b":"c"}"#),
        ("longhand.llm_headers", r#"{"Authorization":"c"}"#),
        ("longhand.llm_headers", r#"{"a":"b\r\nc: d"}"#),
        ("longhand.llm_modelmap", "{}"),
    ] {
        let mut metadata = vec![ROLE, NATIVE, URL];
        metadata.retain(|(k, _)| *k != name);
        metadata.push((name, value));
        let error = refused(&metadata);
        assert!(error.contains(&format!("`{name}`")), "{value}: {error}");
    }
}

#[test]
fn exactly_one_active_key_is_needed() {
    let none = VaultView {
        credentials: Vec::new(),
        ..view(&[ROLE, NATIVE, URL])
    };
    let two = VaultView {
        credentials: vec![key(1), key(2)],
        ..view(&[ROLE, NATIVE, URL])
    };
    for (view, found) in [(none, 0), (two, 2)] {
        let error = resolve(&[view]).expect_err("refused");
        assert_eq!(error, LlmVaultError::Keys { vault: id(), found });
    }
    let mut archived = key(2);
    archived.archived_at = Some(Micros(1));
    let one = VaultView {
        credentials: vec![archived, key(1)],
        ..view(&[ROLE, NATIVE, URL])
    };
    assert!(resolve(&[one]).is_ok());
}

#[test]
fn two_llm_vaults_are_refused_by_name_and_one_named_twice_is_one() {
    let mut second = view(&[ROLE, NATIVE, URL]);
    second.vault.id = VaultId::from_bits(2);
    let error = resolve(&[view(&[ROLE, NATIVE, URL]), second.clone()]).expect_err("refused");
    assert_eq!(
        error,
        LlmVaultError::Two {
            first: id(),
            second: second.vault.id
        }
    );
    assert!(resolve(&[second.clone(), second]).expect("one").is_some());
}

#[test]
fn the_key_opens_only_as_itself() {
    let v = Vault::with(&MasterKey::from_bytes([1; 32]));
    let mut llm = chosen(&[ROLE, NATIVE, URL]);
    assert_eq!(v.open_llm_key(&llm.key).expect("opened").expose(), "sk-1");
    assert!(llm.key_source().contains(&llm.key.credential.to_string()));
    llm.key.credential = CredentialId::from_bits(9);
    assert!(v.open_llm_key(&llm.key).is_err());
}
