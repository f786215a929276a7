//! Vaults and credentials: the public half is echoed, the secret half never is.

use contract::credential::normal_url;
use contract::credential::{
    CreateCredential, Credential, CredentialDefinition, Secrets, UpdateCredential,
};
use contract::ids::{CredentialId, VaultId};
use contract::parse::Invalid;
use contract::time::Micros;
use contract::vault::{CreateVault, UpdateVault, Vault};
use serde_json::{Value, json};

use crate::{read, with};

const NOW: Micros = Micros(1_800_000_000_000_000);

fn create(auth: Value) -> Result<(CredentialDefinition, Secrets), Invalid> {
    read::<CreateCredential>(&json!({"auth": auth, "display_name": null}))?.resolve(NOW)
}

fn update(
    stored: &CredentialDefinition,
    body: Value,
) -> Result<(CredentialDefinition, Secrets), Invalid> {
    stored.updated(read::<UpdateCredential>(&body)?, NOW)
}

fn served(definition: &CredentialDefinition) -> Value {
    let (id, vault) = (CredentialId::from_bits(1), VaultId::from_bits(1));
    let credential = Credential::new(id, vault, definition.clone(), Micros(0), Micros(0), None);
    serde_json::to_value(credential).unwrap()
}

fn bearer() -> Value {
    json!({"type": "static_bearer", "token": "s3cret", "mcp_server_url": "https://mcp.example.com/x"})
}

fn variable() -> Value {
    json!({"type": "environment_variable", "secret_name": "API_KEY", "secret_value": "s3cret",
        "networking": {"type": "limited", "allowed_hosts": ["api.example.com"]}})
}

fn oauth() -> Value {
    json!({"type": "mcp_oauth", "access_token": "s3cret", "mcp_server_url": "https://mcp.example.com",
        "expires_at": "2099-01-01T00:00:00+00:00",
        "refresh": {"client_id": "c", "refresh_token": "s3cret-r", "token_endpoint": "https://id.example.com/t",
            "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "s3cret-c"}, "scope": "a b"}})
}

#[test]
fn each_type_is_served_without_its_secrets() {
    for (auth, wanted) in [
        (
            bearer(),
            json!({"type": "static_bearer", "mcp_server_url": "https://mcp.example.com/x"}),
        ),
        (
            json!({"type": "static_bearer", "token": "s3cret"}),
            json!({"type": "static_bearer"}),
        ),
        (
            variable(),
            json!({"type": "environment_variable", "secret_name": "API_KEY",
            "networking": {"type": "limited", "allowed_hosts": ["api.example.com"]},
            "injection_location": {"header": true, "body": true}}),
        ),
        (
            oauth(),
            json!({"type": "mcp_oauth", "mcp_server_url": "https://mcp.example.com",
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "refresh": {"client_id": "c", "token_endpoint": "https://id.example.com/t",
                "token_endpoint_auth": {"type": "client_secret_post"}, "scope": "a b"}}),
        ),
    ] {
        let (definition, secrets) = create(auth).unwrap();
        assert_eq!(served(&definition)["auth"], wanted);
        assert_eq!(secrets.main.as_ref().unwrap().expose(), "s3cret");
        let stored = serde_json::to_string(&definition).unwrap();
        assert!(!stored.contains("s3cret"), "{stored}");
        assert_eq!(
            serde_json::from_str::<CredentialDefinition>(&stored).unwrap(),
            definition
        );
        assert!(!format!("{secrets:?}").contains("s3cret"));
    }
}

#[test]
fn no_request_shows_its_secret_when_printed() {
    for auth in [bearer(), variable(), oauth()] {
        let request = read::<CreateCredential>(&json!({"auth": auth})).unwrap();
        assert!(!format!("{request:?}").contains("s3cret"), "{request:?}");
    }
}

#[test]
fn every_bad_field_is_named() {
    let hosts = "/networking/allowed_hosts";
    let many: Vec<String> = (0..17).map(|n| format!("h{n}.x")).collect();
    for (auth, pointer, value, path) in [
        (bearer(), "/type", None, "auth.type"),
        (bearer(), "/type", Some(json!("basic")), "auth.type"),
        (bearer(), "/token", None, "auth.token"),
        (bearer(), "/token", Some(json!("")), "auth.token"),
        (bearer(), "/token", Some(json!("a\nb")), "auth.token"),
        (
            bearer(),
            "/token",
            Some(json!("x".repeat(16 * 1024 + 1))),
            "auth.token",
        ),
        (bearer(), "/token", Some(json!(5)), "auth.token"),
        (
            bearer(),
            "/mcp_server_url",
            Some(json!("mcp.example.com")),
            "auth.mcp_server_url",
        ),
        (
            bearer(),
            "/mcp_server_url",
            Some(json!("https://a@b.c")),
            "auth.mcp_server_url",
        ),
        (bearer(), "/extra", Some(json!(1)), "auth.extra"),
        (
            variable(),
            "/secret_name",
            Some(json!("1A")),
            "auth.secret_name",
        ),
        (
            variable(),
            "/secret_name",
            Some(json!("A-B")),
            "auth.secret_name",
        ),
        (variable(), "/secret_value", None, "auth.secret_value"),
        (variable(), "/networking", None, "auth.networking"),
        (
            variable(),
            hosts,
            Some(json!(many)),
            "auth.networking.allowed_hosts",
        ),
        (
            variable(),
            hosts,
            Some(json!([])),
            "auth.networking.allowed_hosts",
        ),
        (
            variable(),
            hosts,
            Some(json!(["https://a.b"])),
            "auth.networking.allowed_hosts[0]",
        ),
        (
            variable(),
            hosts,
            Some(json!(["::1"])),
            "auth.networking.allowed_hosts[0]",
        ),
        (
            variable(),
            "/injection_location",
            Some(json!(null)),
            "auth.injection_location",
        ),
        (
            variable(),
            "/injection_location",
            Some(json!({})),
            "auth.injection_location",
        ),
        (
            variable(),
            "/injection_location",
            Some(json!({"query": true})),
            "auth.injection_location.query",
        ),
        (
            oauth(),
            "/expires_at",
            Some(json!("2001-01-01T00:00:00Z")),
            "auth.expires_at",
        ),
        (
            oauth(),
            "/expires_at",
            Some(json!("soon")),
            "auth.expires_at",
        ),
        (oauth(), "/mcp_server_url", None, "auth.mcp_server_url"),
        (
            oauth(),
            "/refresh/token_endpoint_auth/client_secret",
            None,
            "auth.refresh.token_endpoint_auth.client_secret",
        ),
        (
            oauth(),
            "/refresh/token_endpoint_auth/type",
            Some(json!("none")),
            "auth.refresh.token_endpoint_auth.client_secret",
        ),
        (
            oauth(),
            "/refresh/token_endpoint",
            Some(json!("/t")),
            "auth.refresh.token_endpoint",
        ),
    ] {
        let bad = create(with(&auth, pointer, value.clone()));
        let bad = bad.map(|_| ()).expect_err(&format!("{pointer} {value:?}"));
        assert_eq!(bad.path, path, "{pointer}: {bad}");
        assert!(!bad.problem.contains("s3cret"));
    }
}

#[test]
fn an_update_keeps_what_it_leaves_out_and_fixes_what_is_fixed() {
    let (stored, _) = create(oauth()).unwrap();
    let (same, secrets) = update(&stored, json!({})).unwrap();
    assert!(same == stored && secrets.is_empty());
    let (same, secrets) = update(
        &stored,
        json!({"auth": {"type": "mcp_oauth", "access_token": "new"}}),
    )
    .unwrap();
    assert_eq!(same, stored, "a new token inherits the old expiry");
    assert_eq!(secrets.main.unwrap().expose(), "new");
    let (changed, secrets) = update(&stored, json!({"auth": {"type": "mcp_oauth", "expires_at": null,
        "refresh": {"scope": "", "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "n"}}}})).unwrap();
    assert_eq!(
        served(&changed)["auth"]["refresh"],
        json!({"client_id": "c", "token_endpoint": "https://id.example.com/t", "token_endpoint_auth": {"type": "client_secret_post"}}),
        "the stored way of proving wins, an empty scope clears"
    );
    assert_eq!(served(&changed)["auth"].get("expires_at"), None);
    assert_eq!(secrets.client_secret.unwrap().expose(), "n");

    let (variable, _) = create(variable()).unwrap();
    let location = |location: Value| {
        update(
            &variable,
            json!({"auth": {"type": "environment_variable", "injection_location": location}}),
        )
    };
    assert_eq!(
        served(&location(json!({"body": false})).unwrap().0)["auth"]["injection_location"],
        json!({"header": true, "body": false})
    );
    assert_eq!(
        location(json!({"body": false, "header": false}))
            .unwrap_err()
            .path,
        "auth.injection_location"
    );
    assert_eq!(
        location(json!(null)).unwrap_err().path,
        "auth.injection_location"
    );

    let (bearer, _) = create(bearer()).unwrap();
    for (body, path) in [
        (json!({"auth": {"type": "mcp_oauth"}}), "auth.type"),
        (
            json!({"auth": {"type": "static_bearer", "mcp_server_url": "https://x.y"}}),
            "auth.mcp_server_url",
        ),
        (
            json!({"auth": {"type": "static_bearer", "token": ""}}),
            "auth.token",
        ),
        (json!({"auth": null}), "auth"),
        (json!({"display_name": ""}), "display_name"),
        (json!({"metadata": {"k": 1}}), "metadata.k"),
    ] {
        assert_eq!(
            update(&bearer, body.clone())
                .map(|_| ())
                .expect_err(&body.to_string())
                .path,
            path,
            "{body}"
        );
    }
}

#[test]
fn urls_that_mean_the_same_server_have_one_key() {
    let key = |url: &str| {
        let auth = json!({"type": "static_bearer", "token": "t", "mcp_server_url": url});
        create(auth).unwrap().0.auth.unique_key()
    };
    assert_eq!(
        key("HTTPS://MCP.example.com:443/a/"),
        key("https://mcp.example.com/a")
    );
    assert_ne!(
        key("https://mcp.example.com/A"),
        key("https://mcp.example.com/a")
    );
    assert_ne!(
        key("https://mcp.example.com:8443/a"),
        key("https://mcp.example.com/a")
    );
    assert_eq!(normal_url("http://x.y:80"), "http://x.y");
    let (llm, _) = create(json!({"type": "static_bearer", "token": "t"})).unwrap();
    assert_eq!(llm.auth.unique_key(), None);
}

#[test]
fn vaults_are_checked_and_served() {
    let vault = read::<CreateVault>(&json!({"display_name": "v", "metadata": {"k": "v"}}))
        .unwrap()
        .resolve()
        .unwrap();
    let patch = |body: Value| -> Result<_, Invalid> { vault.updated(read::<UpdateVault>(&body)?) };
    assert_eq!(
        patch(json!({"display_name": null, "metadata": null})).unwrap(),
        vault
    );
    assert!(
        patch(json!({"metadata": {"k": null}}))
            .unwrap()
            .metadata
            .is_empty()
    );
    assert_eq!(
        patch(json!({"display_name": ""})).unwrap_err().path,
        "display_name"
    );
    assert_eq!(
        patch(json!({"display_name": "x".repeat(256)}))
            .unwrap_err()
            .path,
        "display_name"
    );
    let served = Vault::new(VaultId::from_bits(1), vault, Micros(0), Micros(0), None);
    assert_eq!(
        serde_json::to_value(served).unwrap(),
        json!({"id": VaultId::from_bits(1).to_string(), "type": "vault", "display_name": "v", "metadata": {"k": "v"},
            "created_at": "1970-01-01T00:00:00.000000Z", "updated_at": "1970-01-01T00:00:00.000000Z", "archived_at": null})
    );
}
