//! The embedded list and the operator's over it.

use model::{Catalog, CatalogError, Lifecycle, Usage};
use session::Cost;

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
    let unpriced = catalog.list().into_iter().filter(|m| m.prices.is_none());
    let unpriced: Vec<&str> = unpriced.map(|m| m.id.as_str()).collect();
    assert_eq!(
        unpriced,
        ["claude-fable-5-2"],
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

#[test]
fn tokens_cost_their_list_price_to_the_picodollar() {
    let catalog = Catalog::embedded();
    let usage = Usage {
        input: 1,
        output: 10,
        cache_read: 100,
        cache_creation_5m: 1_000,
        cache_creation_1h: 10_000,
    };
    // Fable 5.1, dollars a million: 10 in, 50 out, 0.25 read, 12.5 and 20 written.
    let pico = 10_000_000 + 10 * 50_000_000 + 100 * 250_000 + 1_000 * 12_500_000;
    assert_eq!(
        catalog.price("claude-fable-5-1", &usage),
        Some(Cost(pico + 10_000 * 20_000_000))
    );
    assert_eq!(
        catalog.price("claude-opus-4-5", &usage),
        catalog.price("claude-opus-4-5-20251101", &usage),
        "an alias costs what its model costs"
    );
    assert_eq!(catalog.price("claude-fable-5-2", &usage), None);
    assert_eq!(catalog.price("somebody/else-7b", &usage), None);
    assert!(catalog.has_price("claude-haiku-4-5") && !catalog.has_price("somebody/else-7b"));
    let endless = Usage {
        output: u64::MAX,
        ..Usage::default()
    };
    assert_eq!(
        catalog.price("claude-opus-5", &endless),
        Some(Cost(u64::MAX))
    );
}

#[test]
fn a_long_prompt_changes_the_price_of_every_token_of_its_request() {
    let catalog = Catalog::embedded();
    let of = |input, cache_read| {
        let usage = Usage {
            input,
            cache_read,
            output: 1,
            ..Usage::default()
        };
        catalog.price("claude-haiku-5-5", &usage)
    };
    assert_eq!(
        of(50_000, 50_000),
        Some(Cost(50_000 * 100_000 + 50_000 * 10_000 + 500_000))
    );
    assert_eq!(
        of(50_001, 50_000),
        Some(Cost(50_001 * 500_000 + 50_000 * 50_000 + 2_500_000))
    );
}

#[test]
fn an_absent_cache_price_is_that_of_input() {
    let file = "[[model]]\nid = \"m\"\ndisplay_name = \"M\"\nprices = { input = \"0.000002\", output = \"0.000004\" }";
    let catalog = Catalog::with_operator_file(file).unwrap();
    let usage = Usage {
        cache_read: 3,
        cache_creation_5m: 4,
        ..Usage::default()
    };
    assert_eq!(catalog.price("m", &usage), Some(Cost(7 * 2_000_000)));
}

#[test]
fn models_before_opus_4_8_and_sonnet_5_take_no_system_messages() {
    let catalog = Catalog::embedded();
    let takes = |id| catalog.takes_system_messages(id);
    for id in [
        "claude-opus-4-8",
        "claude-opus-5",
        "claude-sonnet-5-5",
        "claude-fable-5-2",
        "gpt-5",
        "somebody/else-7b",
    ] {
        assert!(takes(id), "{id}");
    }
    for id in [
        "claude-opus-4-5",
        "claude-opus-4-7",
        "claude-sonnet-4-6",
        "claude-sonnet-5",
        "claude-haiku-4-5",
        "anthropic/claude-haiku-4-5",
    ] {
        assert!(!takes(id), "{id}");
    }
}
