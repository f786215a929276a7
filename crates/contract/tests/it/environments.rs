//! Environments: defaults, the recorded echo, updates that keep what they leave out.

use contract::environment::{
    CreateEnvironment, Environment, EnvironmentDefinition, UpdateEnvironment,
};
use contract::error::ApiError;
use contract::ids::EnvironmentId;
use contract::time::Micros;
use serde_json::{Value, json};

use crate::{read, with};

fn full() -> Value {
    json!({
        "name": "e", "description": "d", "metadata": {"k": "v"}, "scope": "organization",
        "config": {"type": "cloud",
            "networking": {"type": "limited", "allowed_hosts": ["api.example.com", "*.example.org", "10.1.2.3"],
                           "allow_mcp_servers": true, "allow_package_managers": true},
            "packages": {"type": "packages", "pip": ["pandas==2.0"], "npm": null}}
    })
}

fn resolve(body: &Value) -> Result<EnvironmentDefinition, ApiError> {
    read::<CreateEnvironment>(body)?.resolve()
}

fn update(stored: &EnvironmentDefinition, body: &Value) -> Result<EnvironmentDefinition, ApiError> {
    stored.updated(read::<UpdateEnvironment>(body)?)
}

fn served(definition: &EnvironmentDefinition) -> Value {
    let id = EnvironmentId::from_bits(7);
    serde_json::to_value(Environment::new(
        id,
        definition.clone(),
        Micros(0),
        Micros(0),
        None,
    ))
    .unwrap()
}

#[test]
fn a_minimal_environment_is_cloud_and_unrestricted() {
    let environment = served(&resolve(&json!({"name": "e"})).unwrap());
    assert_eq!(
        environment,
        json!({
            "id": EnvironmentId::from_bits(7).to_string(), "type": "environment", "name": "e",
            "description": "", "metadata": {}, "scope": "organization",
            "config": {"type": "cloud", "networking": {"type": "unrestricted"},
                "packages": {"apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": [], "type": "packages"}},
            "created_at": "1970-01-01T00:00:00.000000Z", "updated_at": "1970-01-01T00:00:00.000000Z",
            "archived_at": null
        })
    );
}

#[test]
fn a_full_environment_is_echoed_and_reads_back() {
    let definition = resolve(&full()).unwrap();
    let environment = served(&definition);
    assert_eq!(
        environment["config"]["networking"],
        full()["config"]["networking"]
    );
    assert_eq!(
        environment["config"]["packages"]["pip"],
        json!(["pandas==2.0"])
    );
    let text = serde_json::to_string(&definition).unwrap();
    assert_eq!(
        serde_json::from_str::<EnvironmentDefinition>(&text).unwrap(),
        definition
    );
    let own = resolve(&json!({"name": "e", "config": {"type": "self_hosted"}})).unwrap();
    assert_eq!(served(&own)["config"], json!({"type": "self_hosted"}));
    let text = serde_json::to_string(&own).unwrap();
    assert_eq!(
        serde_json::from_str::<EnvironmentDefinition>(&text).unwrap(),
        own
    );
}

#[test]
fn every_bad_field_is_named() {
    let hosts = "/config/networking/allowed_hosts";
    let host = "config.networking.allowed_hosts[0]";
    for (pointer, value, path) in [
        ("/name", None, "name"),
        ("/name", Some(json!("")), "name"),
        ("/scope", Some(json!("account")), "scope"),
        ("/config/type", None, "config.type"),
        (
            "/config/type",
            Some(json!("self_hosted")),
            "config.networking",
        ),
        ("/config/init_script", Some(json!("")), "config.init_script"),
        (
            "/config/packages/brew",
            Some(json!([])),
            "config.packages.brew",
        ),
        (
            "/config/packages/pip",
            Some(json!(["--index-url=x"])),
            "config.packages.pip[0]",
        ),
        (hosts, Some(json!(["https://x.y"])), host),
        (hosts, Some(json!(["x.y:443"])), host),
        (hosts, Some(json!(["x.y/z"])), host),
        (hosts, Some(json!(["*"])), host),
        (hosts, Some(json!(["*.com"])), host),
        (hosts, Some(json!(["a.*.com"])), host),
        (hosts, Some(json!(["[::1]"])), host),
        (hosts, Some(json!(["300.1.1.1"])), host),
        (
            hosts,
            Some(json!(["a.b", "A.b"])),
            "config.networking.allowed_hosts[1]",
        ),
        (
            "/config/networking/allow_package_managers",
            Some(json!(false)),
            "config.networking.allow_package_managers",
        ),
        ("/metadata/k", Some(json!(1)), "metadata.k"),
    ] {
        let bad = resolve(&with(&full(), pointer, value.clone()));
        let bad = bad.expect_err(&format!("{pointer} {value:?}"));
        assert_eq!(bad.status, 400);
        assert!(
            bad.message.starts_with(&format!("`{path}`: ")),
            "{pointer}: {bad}"
        );
    }
}

#[test]
fn metadata_beyond_its_limits_carries_its_code() {
    let body = json!({"name": "e", "metadata": {"k": "v".repeat(513)}});
    assert_eq!(resolve(&body).unwrap_err().code, Some("invalid_metadata"));
    let bad = update(
        &resolve(&full()).unwrap(),
        &json!({"metadata": {"k".repeat(65): "v"}}),
    );
    assert_eq!(bad.unwrap_err().code, Some("invalid_metadata"));
}

#[test]
fn an_update_keeps_what_it_leaves_out() {
    let stored = resolve(&full()).unwrap();
    for nothing in [
        json!({}),
        json!({"config": null, "name": null, "scope": null}),
        json!({"config": {"type": "cloud"}}),
        json!({"config": {"type": "cloud", "networking": {"type": "limited"}, "packages": {}}}),
    ] {
        assert_eq!(update(&stored, &nothing).unwrap(), stored, "{nothing}");
    }
    assert_eq!(
        update(&stored, &json!({"description": null}))
            .unwrap()
            .description,
        None
    );
    assert_eq!(
        update(&stored, &json!({"description": ""}))
            .unwrap()
            .description
            .as_deref(),
        Some("")
    );
    let changed = update(&stored, &json!({"metadata": {"k": "", "x": "y"}})).unwrap();
    assert_eq!(json!(changed.metadata), json!({"x": "y"}));
    let changed = update(
        &stored,
        &json!({"config": {"type": "cloud", "networking": {"type": "unrestricted"}}}),
    );
    assert_eq!(
        served(&changed.unwrap())["config"]["networking"],
        json!({"type": "unrestricted"})
    );
}

#[test]
fn the_type_of_a_config_cannot_change() {
    let stored = resolve(&full()).unwrap();
    let bad = update(&stored, &json!({"config": {"type": "self_hosted"}})).unwrap_err();
    assert_eq!(bad.code, Some("invalid_config_type_change"));
}
