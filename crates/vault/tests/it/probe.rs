//! Trying an OAuth credential: what is said of it, and that no secret is.

use axum::http::StatusCode;
use contract::credential::{RefreshStatus, TokenAuth, Validation, ValidationStatus};
use serde_json::json;
use vault::refresh::TokenError;

use crate::authority::*;

fn good() -> Way {
    Way::Good {
        expires_in: json!(3_600),
    }
}

fn clean(found: &Validation) {
    let shown = serde_json::to_string(found).expect("JSON");
    for n in 0..2 {
        assert!(!shown.contains(&access_token(n)), "{shown}");
        assert!(!shown.contains(&refresh_token(n)), "{shown}");
    }
}

#[tokio::test]
async fn a_token_that_opens_the_server_is_valid_and_leaves_no_session_there() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    let it = bench.credential(&authority, None, TokenAuth::None).await;
    let found = bench.refresher.validate(it).await.expect("tried");
    assert_eq!(found.status, ValidationStatus::Valid);
    assert!(found.has_refresh_token && found.mcp_probe.is_none() && found.refresh.is_none());
    let books = authority.books.lock().expect("whole");
    let steps = [
        "initialize",
        "notifications/initialized",
        "tools/list",
        "DELETE",
    ];
    assert_eq!(books.asked, steps);
}

#[tokio::test]
async fn a_refused_token_is_refreshed_and_tried_again() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    let it = bench.credential(&authority, None, TokenAuth::None).await;
    authority.books.lock().expect("whole").granted = 1;
    let found = bench.refresher.validate(it).await.expect("tried");
    clean(&found);
    assert_eq!(
        found.status,
        ValidationStatus::Invalid,
        "its refresh token was spent"
    );
    let probe = found.mcp_probe.expect("the step that failed");
    assert_eq!(probe.method, "initialize");
    let said = probe.http_response.expect("an answer");
    assert_eq!(
        (said.status_code, said.content_type.as_str()),
        (401, "application/json")
    );
    assert!(
        said.body.contains("you sent Bearer [redacted]"),
        "{}",
        said.body
    );
    let refresh = found.refresh.expect("a 401 leads to one");
    assert_eq!(refresh.status, RefreshStatus::Failed);
    assert_eq!(refresh.http_response.expect("an answer").status_code, 400);

    let (bench, authority) = (Bench::new().await, Authority::start(Way::Same).await);
    let it = bench.credential(&authority, None, TokenAuth::None).await;
    authority.books.lock().expect("whole").granted = 1;
    let found = bench.refresher.validate(it).await.expect("tried");
    assert_eq!(found.status, ValidationStatus::Valid);
    assert!(found.mcp_probe.is_none());
    let refresh = found.refresh.expect("a 401 leads to one");
    assert_eq!(
        (refresh.status, refresh.http_response),
        (RefreshStatus::Succeeded, None)
    );
}

#[tokio::test]
async fn without_a_refresh_token_a_refused_one_is_invalid() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    let it = bench.made(&authority, None, None).await;
    authority.books.lock().expect("whole").granted = 1;
    let found = bench.refresher.validate(it).await.expect("tried");
    assert_eq!(found.status, ValidationStatus::Invalid);
    assert!(!found.has_refresh_token);
    let refresh = found.refresh.expect("a 401 leads to one");
    assert_eq!(refresh.status, RefreshStatus::NoRefreshToken);
    assert_eq!(authority.asked(), 0);
}

#[tokio::test]
async fn what_the_server_says_decides_and_is_shown_short_and_clean() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    let it = bench.credential(&authority, None, TokenAuth::None).await;
    for (status, verdict) in [
        (StatusCode::FORBIDDEN, ValidationStatus::Invalid),
        (StatusCode::NOT_FOUND, ValidationStatus::Invalid),
        (StatusCode::TOO_MANY_REQUESTS, ValidationStatus::Unknown),
        (StatusCode::INTERNAL_SERVER_ERROR, ValidationStatus::Unknown),
        (StatusCode::FOUND, ValidationStatus::Unknown),
    ] {
        authority.books.lock().expect("whole").mcp = status;
        let found = bench.refresher.validate(it).await.expect("tried");
        clean(&found);
        assert_eq!(found.status, verdict, "{status}");
        assert!(found.refresh.is_none());
        let said = found
            .mcp_probe
            .expect("failed")
            .http_response
            .expect("an answer");
        assert_eq!(said.status_code, status.as_u16());
        assert!(
            said.body_truncated && said.body.len() <= 4_096,
            "{}",
            said.body.len()
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_leaves_it_unknown() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    let it = bench.credential(&authority, None, TokenAuth::None).await;
    drop(authority);
    let found = bench.refresher.validate(it).await.expect("tried");
    assert_eq!(found.status, ValidationStatus::Unknown);
    let probe = found.mcp_probe.expect("failed");
    assert_eq!(
        (probe.method.as_str(), probe.http_response),
        ("initialize", None)
    );
    let guarded = Bench::another(&bench.store, &bench.vault, "");
    let found = guarded.validate(it).await.expect("tried");
    assert_eq!(
        found.status,
        ValidationStatus::Unknown,
        "a private address is not dialled"
    );
}

#[tokio::test]
async fn only_an_active_oauth_credential_is_tried() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    let it = bench.credential(&authority, None, TokenAuth::None).await;
    let archived = bench
        .store
        .archive_credential(WS, VAULT, it.credential, now());
    archived.await.expect("archived");
    let error = bench.refresher.validate(it).await.expect_err("refused");
    assert!(
        matches!(error, TokenError::Store(store::Error::Archived(_))),
        "{error:?}"
    );
}
