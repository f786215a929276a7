//! The embedded list and the operator's over it.

use model::{Catalog, CatalogError, Lifecycle};

#[test]
fn embedded_catalog_is_valid() {
    let catalog = Catalog::embedded();
    let ids: Vec<&str> = catalog.list().iter().map(|m| m.id.as_str()).collect();
    assert_eq!(ids.len(), 15);
    assert!(ids.contains(&"claude-opus-5-5"));
    assert_eq!(
        catalog.get("claude-haiku-4-5").unwrap().id,
        "claude-haiku-4-5-20251001"
    );
    assert!(
        catalog.list().iter().all(|m| m.prices.is_none()),
        "prices come only from a source"
    );
}

#[test]
fn unknown_models_run_with_assumed_limits() {
    let limits = Catalog::embedded().limits("somebody/else-7b");
    assert_eq!(
        (limits.max_input_tokens, limits.max_tokens),
        (200_000, 8_192)
    );
}

#[test]
fn the_operators_file_replaces_and_adds() {
    let catalog = Catalog::with_operator_file(
        r#"
        [[model]]
        id = "claude-opus-5"
        display_name = "Our Opus"
        lifecycle = "deprecated"
        max_tokens = 64000
        prices = { input = "0.000005", output = "0.000025" }
        [[model]]
        id = "local"
        display_name = "Local"
        [[quirks]]
        prefix = "gpt-5"
        "#,
    )
    .unwrap();
    let opus = catalog.get("claude-opus-5").unwrap();
    assert_eq!(
        (opus.display_name.as_str(), opus.lifecycle),
        ("Our Opus", Lifecycle::Deprecated)
    );
    assert_eq!(catalog.limits("claude-opus-5").max_tokens, 64_000);
    assert_eq!(catalog.list().len(), 16);
    assert!(
        !catalog.quirks("gpt-5").reasoning_effort,
        "the operator's quirk comes first"
    );
}

#[test]
fn a_wrong_file_says_what_is_wrong() {
    let price = "[[model]]\nid = \"m\"\ndisplay_name = \"M\"\nprices = { input = \"3e-6\", output = \"1\" }";
    assert!(matches!(
        Catalog::with_operator_file(price),
        Err(CatalogError::Price { kind: "input", .. })
    ));
    let typo = "[[model]]\nid = \"m\"\ndisplay_name = \"M\"\nmax_token = 3";
    assert!(matches!(
        Catalog::with_operator_file(typo),
        Err(CatalogError::Syntax(_))
    ));
}
