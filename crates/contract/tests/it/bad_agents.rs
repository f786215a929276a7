//! Every field of an agent that can be wrong, refused at its path.

use serde_json::{Value, json};

use crate::agents::{full, resolve};
use crate::with;

#[test]
fn every_bad_field_is_named() {
    let long = |n: usize| json!("x".repeat(n));
    let pairs: serde_json::Map<String, Value> =
        (0..17).map(|n| (format!("k{n}"), json!("v"))).collect();
    let customs: Vec<Value> = (0..257)
        .map(|n| json!({"type": "custom", "name": format!("t{n}"), "description": "d", "input_schema": {"type": "object"}}))
        .collect();
    let servers: Vec<Value> = (0..21)
        .map(|n| json!({"type": "url", "name": format!("s{n}"), "url": "https://x.y"}))
        .collect();
    let named = |name: Value| {
        Some(
            json!({"type": "custom", "name": name, "description": "d", "input_schema": {"type": "object"}}),
        )
    };
    let cases = [
        ("/name", None, "name"),
        ("/model", None, "model"),
        ("/name", Some(json!(null)), "name"),
        ("/name", Some(json!("")), "name"),
        ("/name", Some(long(257)), "name"),
        ("/description", Some(long(2_049)), "description"),
        ("/system", Some(long(100_001)), "system"),
        ("/model", Some(json!("")), "model"),
        ("/model", Some(json!(3)), "model"),
        ("/model", Some(json!({})), "model.id"),
        (
            "/model",
            Some(json!({"id": "m", "extra": 1})),
            "model.extra",
        ),
        ("/model/effort", Some(json!("hard")), "model.effort"),
        (
            "/model/effort",
            Some(json!({"type": "hard"})),
            "model.effort.type",
        ),
        (
            "/model/effort",
            Some(json!({"type": "low", "x": 1})),
            "model.effort.x",
        ),
        ("/model/speed", Some(json!("slow")), "model.speed"),
        ("/nonsense", Some(json!(1)), "nonsense"),
        ("/tools", Some(json!(null)), "tools"),
        ("/tools", Some(json!(customs)), "tools"),
        ("/tools/0", Some(json!({})), "tools[0].type"),
        ("/tools/0", Some(json!({"type": 1})), "tools[0].type"),
        (
            "/tools/0",
            Some(json!({"type": "browser"})),
            "tools[0].type",
        ),
        ("/tools/0/extra", Some(json!(1)), "tools[0].extra"),
        (
            "/tools/0/configs/0/name",
            Some(json!("rm")),
            "tools[0].configs[0].name",
        ),
        (
            "/tools/0/configs/0/type",
            Some(json!("read")),
            "tools[0].configs[0].type",
        ),
        (
            "/tools/0/configs/0/allowed_domains",
            Some(json!(["a.b"])),
            "tools[0].configs[0].allowed_domains",
        ),
        (
            "/tools/0/configs/0/permission_policy",
            Some(json!("always_allow")),
            "tools[0].configs[0].permission_policy",
        ),
        (
            "/tools/0/configs/0/permission_policy/type",
            Some(json!("never")),
            "tools[0].configs[0].permission_policy.type",
        ),
        (
            "/tools/0/configs/0/permission_policy/x",
            Some(json!(1)),
            "tools[0].configs[0].permission_policy.x",
        ),
        (
            "/tools/0/configs/3",
            Some(json!({"name": "bash"})),
            "tools[0].configs[3].name",
        ),
        (
            "/tools/0/configs/1/allowed_domains",
            Some(json!([])),
            "tools[0].configs[1].allowed_domains",
        ),
        (
            "/tools/0/configs/1/allowed_domains",
            Some(json!(["10.0.0.1"])),
            "tools[0].configs[1].allowed_domains[0]",
        ),
        (
            "/tools/0/configs/1/allowed_domains",
            Some(json!(["a.b", "https://x.y"])),
            "tools[0].configs[1].allowed_domains[1]",
        ),
        (
            "/tools/0/configs/1/blocked_domains",
            Some(json!(["a.b"])),
            "tools[0].configs[1].blocked_domains",
        ),
        (
            "/tools/0/configs/1/url_sources/user_input",
            Some(json!("some")),
            "tools[0].configs[1].url_sources.user_input",
        ),
        (
            "/tools/0/configs/1/url_sources/server_tool_results",
            Some(json!({"type": "only", "tools": [{"type": "tool_reference", "name": "bash"}]})),
            "tools[0].configs[1].url_sources.server_tool_results.tools[0].name",
        ),
        (
            "/tools/0/configs/2/user_location/country",
            Some(json!("Germany")),
            "tools[0].configs[2].user_location.country",
        ),
        (
            "/tools/0/default_config/enabled",
            Some(json!("yes")),
            "tools[0].default_config.enabled",
        ),
        (
            "/tools/1/configs/1",
            Some(json!({"name": "issue"})),
            "tools[1].configs[1].name",
        ),
        (
            "/tools/1/mcp_server_name",
            Some(json!("other")),
            "mcp_servers[0].name",
        ),
        ("/tools/3", named(json!("bash")), "tools[3].name"),
        ("/tools/3", named(json!("a b")), "tools[3].name"),
        ("/tools/3", named(json!("mcp__x")), "tools[3].name"),
        ("/tools/3", named(long(129)), "tools[3].name"),
        (
            "/tools/2/description",
            Some(json!("")),
            "tools[2].description",
        ),
        ("/tools/2/description", None, "tools[2].description"),
        (
            "/tools/2/input_schema",
            Some(json!("object")),
            "tools[2].input_schema",
        ),
        (
            "/tools/2/input_schema/type",
            Some(json!("string")),
            "tools[2].input_schema.type",
        ),
        (
            "/tools/2/input_schema/oneOf",
            Some(json!([])),
            "tools[2].input_schema.oneOf",
        ),
        (
            "/tools/2/input_schema/properties/q/$ref",
            Some(json!("#")),
            "tools[2].input_schema.properties.q.$ref",
        ),
        (
            "/tools/2/input_schema/properties/a b",
            Some(json!({})),
            "tools[2].input_schema.properties",
        ),
        (
            "/tools/2/input_schema/required",
            Some(json!([1])),
            "tools[2].input_schema.required",
        ),
        (
            "/tools/3",
            Some(json!({"type": "agent_toolset_20260401"})),
            "tools[3]",
        ),
        ("/tools/3", Some(full()["tools"][1].clone()), "tools[3]"),
        ("/tools/3", Some(full()["tools"][2].clone()), "tools[3]"),
        ("/mcp_servers", Some(json!([])), "tools[1].mcp_server_name"),
        ("/mcp_servers", Some(json!(servers)), "mcp_servers"),
        (
            "/mcp_servers/0/url",
            Some(json!("ftp://x.y")),
            "mcp_servers[0].url",
        ),
        (
            "/mcp_servers/0/url",
            Some(json!("https://u:p@x.y")),
            "mcp_servers[0].url",
        ),
        (
            "/mcp_servers/0/url",
            Some(json!("https://x.y/#f")),
            "mcp_servers[0].url",
        ),
        (
            "/mcp_servers/0/url",
            Some(json!("https://")),
            "mcp_servers[0].url",
        ),
        (
            "/mcp_servers/0/url",
            Some(json!("https://x.y:0/")),
            "mcp_servers[0].url",
        ),
        (
            "/mcp_servers/1",
            Some(full()["mcp_servers"][0].clone()),
            "mcp_servers[1].name",
        ),
        ("/skills/0/skill_id", Some(json!("")), "skills[0].skill_id"),
        (
            "/skills/2",
            Some(full()["skills"][0].clone()),
            "skills[2].skill_id",
        ),
        (
            "/execution_identity/type",
            Some(json!("root")),
            "execution_identity.type",
        ),
        (
            "/execution_identity/role_arn",
            Some(json!("")),
            "execution_identity.role_arn",
        ),
        ("/metadata", Some(json!(pairs)), "metadata"),
        ("/metadata/k", Some(long(513)), "metadata.k"),
        ("/metadata/k", Some(json!(null)), "metadata.k"),
        ("/metadata", Some(json!({"k".repeat(65): "v"})), "metadata"),
    ];
    for (pointer, value, path) in cases {
        let body = with(&full(), pointer, value.clone());
        let bad = resolve(&body).expect_err(&format!("{pointer} {value:?} was accepted"));
        assert_eq!(bad.path, path, "{pointer}: {bad}");
    }
}
