//! Access tokens stay fresh: one refresh at a time, new tokens stored before they are used, and no authorization
//! server can make it worse than a token that is not refreshed.

use axum::http::StatusCode;
use contract::credential::{Auth, Refresh, TokenAuth};
use contract::secret::Secret;
use serde_json::json;
use tokio::task::JoinSet;
use vault::oauth::GrantError;
use vault::refresh::{Named, TokenError};

use crate::authority::*;

fn good() -> Way {
    Way::Good {
        expires_in: json!(3_600),
    }
}

async fn token(bench: &Bench, it: Named) -> String {
    let token = bench.refresher.token(it).await.expect("a token");
    token.expose().to_owned()
}

#[tokio::test]
async fn a_token_with_time_left_is_given_as_it_is() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    for expires_at in [None, within(600)] {
        let it = bench
            .credential(&authority, expires_at, TokenAuth::None)
            .await;
        assert_eq!(token(&bench, it).await, access_token(0));
    }
    let expired = bench.made(&authority, within(-5), None).await;
    assert_eq!(
        token(&bench, expired).await,
        access_token(0),
        "there is nothing to refresh it with"
    );
    assert_eq!(authority.asked(), 0);
}

#[tokio::test]
async fn an_expiring_token_is_refreshed_and_both_new_tokens_are_stored() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    let it = bench
        .credential(&authority, within(10), TokenAuth::None)
        .await;
    for n in 1..=3 {
        assert_eq!(token(&bench, it).await, access_token(n));
        assert_eq!(token(&bench, it).await, access_token(n), "once");
        let stored = bench.stored(it).await;
        assert_eq!(stored.token.expose(), access_token(n));
        assert_eq!(
            stored.refresh_token.expect("there").expose(),
            refresh_token(n)
        );
        let row = bench.row(it).await;
        let Auth::McpOauth(oauth) = serde_json::from_str(row.auth.get()).expect("auth") else {
            panic!("another kind")
        };
        let left = oauth.expires_at.expect("known").0 - now().0;
        assert!((3_500_000_000..=3_600_000_000).contains(&left), "{left}");
        pass(3_590);
    }
    assert_eq!(authority.granted(), 3);
}

#[tokio::test]
async fn a_client_proves_itself_in_the_way_that_was_agreed() {
    let bench = Bench::new().await;
    let basic = "Basic bWUrJTI2K3lvdTpjbGllbnQlMkZzZWNyZXQ=";
    for (auth, header, fields) in [
        (
            TokenAuth::None,
            None,
            "client_id=me+%26+you&scope=a+b&resource=https%3A%2F%2Fr",
        ),
        (
            TokenAuth::ClientSecretBasic,
            Some(basic),
            "scope=a+b&resource=https%3A%2F%2Fr",
        ),
        (
            TokenAuth::ClientSecretPost,
            None,
            "client_id=me+%26+you&client_secret=client%2Fsecret&scope=a+b&resource=https%3A%2F%2Fr",
        ),
    ] {
        let authority = Authority::start(good()).await;
        let refresh = Refresh {
            client_id: "me & you".to_owned(),
            token_endpoint: format!("{}/token", authority.url),
            token_endpoint_auth: auth,
            resource: Some("https://r".to_owned()),
            scope: Some("a b".to_owned()),
        };
        let it = bench.made(&authority, within(1), Some(refresh)).await;
        assert_eq!(token(&bench, it).await, access_token(1));
        let books = authority.books.lock().expect("whole");
        let sent = books.tokens[0].headers.get("authorization");
        assert_eq!(sent.map(|v| v.to_str().expect("text")), header);
        let expected =
            format!("grant_type=refresh_token&refresh_token=refresh%2Ftoken%2B0&{fields}");
        assert_eq!(books.tokens[0].form, expected);
    }
}

#[tokio::test]
async fn fifty_users_of_one_expiring_token_on_two_servers_make_one_refresh() {
    let (bench, authority) = (Bench::new().await, Authority::start(Way::Gated).await);
    let it = bench
        .credential(&authority, within(5), TokenAuth::None)
        .await;
    let other = Bench::another(&bench.store, &bench.vault, "127.0.0.0/8");
    let mut users = JoinSet::new();
    for n in 0..50 {
        let refresher = if n % 2 == 0 { &bench.refresher } else { &other }.clone();
        users.spawn(async move {
            refresher
                .token(it)
                .await
                .expect("a token")
                .expose()
                .to_owned()
        });
    }
    until("the server to be asked", async || authority.asked() > 0).await;
    authority.gate.notify_one();
    while let Some(user) = users.join_next().await {
        assert_eq!(user.expect("it ran"), access_token(1));
    }
    assert_eq!((authority.asked(), authority.granted()), (1, 1));
}

#[tokio::test]
async fn a_refused_token_is_refreshed_once_and_a_fresh_one_that_is_refused_is_not() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    let it = bench.credential(&authority, None, TokenAuth::None).await;
    let refused = Secret::new(access_token(0));
    for _ in 0..2 {
        let other = bench.refresher.after_refusal(it, &refused).await;
        assert_eq!(other.expect("another").expose(), access_token(1));
    }
    let afresh = Secret::new(access_token(1));
    let again = bench.refresher.after_refusal(it, &afresh).await;
    assert!(matches!(again, Err(TokenError::RefusedAfresh)), "{again:?}");
    assert_eq!(authority.granted(), 1);
    pass(40);
    let later = bench.refresher.after_refusal(it, &afresh).await;
    assert_eq!(later.expect("another").expose(), access_token(2));
    let none = bench.made(&authority, None, None).await;
    let nothing = bench.refresher.after_refusal(none, &refused).await;
    assert!(matches!(nothing, Err(TokenError::NoRefreshToken)));
}

/// Asks for a token that is over, at an endpoint that behaves so.
async fn asked(way: Way) -> (Bench, Authority, Named, TokenError) {
    let (bench, authority) = (Bench::new().await, Authority::start(way).await);
    let it = bench
        .credential(&authority, within(-5), TokenAuth::ClientSecretPost)
        .await;
    let error = bench.refresher.token(it).await.expect_err("no token");
    for secret in [
        access_token(0),
        refresh_token(0),
        "client/secret".to_owned(),
    ] {
        assert!(!format!("{error:?} {error}").contains(&secret), "{error:?}");
    }
    let stored = bench.stored(it).await;
    assert_eq!(
        stored.refresh_token.expect("kept").expose(),
        refresh_token(0)
    );
    (bench, authority, it, error)
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_secrets() {
    let (_bench, authority, _, error) = asked(Way::Redirect).await;
    let TokenError::Failed {
        said: Some(GrantError::Answer { problem, answer }),
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(answer.status, 307);
    assert!(problem.contains("redirects"), "{problem}");
    assert_eq!(authority.books.lock().expect("whole").strayed, 0);
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_given_up_and_left_alone_for_a_while() {
    let (bench, authority, it, error) = asked(Way::Hang).await;
    assert!(
        matches!(&error, TokenError::Failed { said: Some(GrantError::Unreachable { why }) }
            if why.contains("in time")),
        "{error:?}"
    );
    let again = bench.refresher.token(it).await;
    assert!(
        matches!(again, Err(TokenError::Failed { said: None })),
        "{again:?}"
    );
    assert_eq!(authority.asked(), 1);
    authority.behave(good());
    pass(6);
    assert_eq!(token(&bench, it).await, access_token(1));
}

#[tokio::test]
async fn what_is_no_token_is_not_taken_for_one() {
    let json =
        |body: serde_json::Value| Way::Say(StatusCode::OK, "application/json", body.to_string());
    let html = || "<html>Please log in</html>".to_owned();
    for way in [
        Way::Say(StatusCode::OK, "text/html", html()),
        Way::Say(StatusCode::FORBIDDEN, "text/html", html()),
        Way::Say(StatusCode::BAD_GATEWAY, "text/html", html()),
        Way::Say(StatusCode::TOO_MANY_REQUESTS, "text/plain", String::new()),
        Way::Say(StatusCode::OK, "application/json", "x".repeat(100_000)),
        json(json!({})),
        json(json!({"access_token": ""})),
        json(json!({"access_token": "a\r\nb: c"})),
        json(json!({"access_token": "x".repeat(20_000)})),
        json(json!({"access_token": "x", "token_type": "mac"})),
        json(json!({"access_token": 7})),
        json(json!([])),
    ] {
        let shown = format!("{way:?}");
        let (_bench, authority, _, error) = asked(way).await;
        assert!(
            matches!(
                error,
                TokenError::Failed {
                    said: Some(GrantError::Answer { .. })
                }
            ),
            "{shown}: {error:?}"
        );
        assert_eq!(authority.granted(), 0);
    }
}

#[tokio::test]
async fn a_grant_that_is_gone_is_not_asked_for_again_until_its_owner_gives_new_tokens() {
    let gone =
        json!({"error": "invalid_grant", "error_description": "refresh/token+0 was revoked"});
    let way = Way::Say(
        StatusCode::BAD_REQUEST,
        "application/json",
        gone.to_string(),
    );
    let (bench, authority, it, error) = asked(way).await;
    let TokenError::Revoked {
        said: Some(GrantError::Refused { reason, answer }),
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(reason, "invalid_grant");
    assert!(
        answer.body.contains("[redacted] was revoked"),
        "{}",
        answer.body
    );
    pass(10_000);
    let again = bench.refresher.token(it).await;
    assert!(
        matches!(again, Err(TokenError::Revoked { said: None })),
        "{again:?}"
    );
    assert_eq!(authority.asked(), 1);
    authority.behave(good());
    let row = bench.row(it).await;
    replace(&bench, it, row.revision, &refresh_token(0)).await;
    assert_eq!(token(&bench, it).await, access_token(1));
}

#[tokio::test]
async fn the_same_refresh_token_goes_on_and_a_server_that_gives_none_too() {
    let (bench, authority) = (Bench::new().await, Authority::start(Way::Same).await);
    let it = bench
        .credential(&authority, within(-5), TokenAuth::None)
        .await;
    for n in 1..=2 {
        assert_eq!(token(&bench, it).await, access_token(n));
        let stored = bench.stored(it).await;
        assert_eq!(
            stored.refresh_token.expect("kept").expose(),
            refresh_token(0)
        );
        pass(3_600);
    }
}

#[tokio::test]
async fn a_life_shorter_than_the_skew_or_without_sense_does_not_refresh_without_end() {
    for life in [
        json!(1),
        json!(0),
        json!("5"),
        json!(-7),
        json!(1e300),
        json!("soon"),
        json!(null),
    ] {
        let way = Way::Good {
            expires_in: life.clone(),
        };
        let (bench, authority) = (Bench::new().await, Authority::start(way).await);
        let it = bench
            .credential(&authority, within(-5), TokenAuth::None)
            .await;
        for _ in 0..5 {
            assert_eq!(token(&bench, it).await, access_token(1), "{life}");
        }
        assert_eq!(authority.granted(), 1, "{life}");
    }
}

#[tokio::test]
async fn a_private_endpoint_is_not_dialled_for_a_tenant() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    let guarded = Bench::another(&bench.store, &bench.vault, "");
    let it = bench
        .credential(&authority, within(-5), TokenAuth::None)
        .await;
    let error = guarded.token(it).await.expect_err("refused");
    assert!(
        matches!(&error, TokenError::Failed { said: Some(GrantError::Unreachable { why }) }
            if why.contains("not dialled for tenants")),
        "{error:?}"
    );
    assert_eq!(authority.asked(), 0);
}

#[tokio::test]
async fn new_tokens_are_stored_also_if_their_caller_is_gone_and_the_credential_was_renamed_meanwhile()
 {
    let (bench, authority) = (Bench::new().await, Authority::start(Way::Gated).await);
    let it = bench
        .credential(&authority, within(-5), TokenAuth::None)
        .await;
    let mut caller = asking(&bench, it);
    until("the server to be asked", async || authority.asked() > 0).await;
    caller.shutdown().await;
    rename(&bench, it).await;
    authority.gate.notify_one();
    bench.refresher.close().await;
    let stored = bench.stored(it).await;
    assert_eq!(stored.token.expose(), access_token(1));
    assert_eq!(
        stored.refresh_token.expect("there").expose(),
        refresh_token(1)
    );
    assert_eq!(bench.row(it).await.display_name.as_deref(), Some("renamed"));
}

#[tokio::test]
async fn tokens_that_the_owner_gave_meanwhile_win() {
    let (bench, authority) = (Bench::new().await, Authority::start(Way::Gated).await);
    let it = bench
        .credential(&authority, within(-5), TokenAuth::None)
        .await;
    let mut caller = asking(&bench, it);
    until("the server to be asked", async || authority.asked() > 0).await;
    replace(&bench, it, 1, "another-refresh-token").await;
    authority.gate.notify_one();
    let got = caller.join_next().await.expect("one").expect("it ran");
    assert_eq!(got.expect("a token").expose(), "another-access-token");
    let stored = bench.stored(it).await;
    assert_eq!(
        stored.refresh_token.expect("there").expose(),
        "another-refresh-token"
    );
}

#[tokio::test]
async fn a_grant_that_is_gone_says_nothing_of_tokens_that_the_owner_gave_meanwhile() {
    let (bench, authority) = (Bench::new().await, Authority::start(Way::Gated).await);
    let it = bench
        .credential(&authority, within(-5), TokenAuth::None)
        .await;
    let mut caller = asking(&bench, it);
    until("the server to be asked", async || authority.asked() > 0).await;
    // What it was asked with is worth nothing any more, and the owner knows.
    authority.books.lock().expect("whole").granted = 1;
    replace(&bench, it, 1, &refresh_token(1)).await;
    authority.gate.notify_one();
    let got = caller.join_next().await.expect("one").expect("it ran");
    let refused = got.expect("a token");
    assert_eq!(refused.expose(), "another-access-token");
    authority.behave(good());
    let other = bench.refresher.after_refusal(it, &refused).await;
    assert_eq!(other.expect("another").expose(), access_token(2));
}

#[tokio::test]
async fn a_grant_that_is_gone_is_gone_also_if_its_credential_was_renamed_meanwhile() {
    let (bench, authority) = (Bench::new().await, Authority::start(Way::Gated).await);
    let it = bench
        .credential(&authority, within(-5), TokenAuth::None)
        .await;
    let mut caller = asking(&bench, it);
    until("the server to be asked", async || authority.asked() > 0).await;
    authority.books.lock().expect("whole").granted = 1;
    rename(&bench, it).await;
    authority.gate.notify_one();
    let got = caller.join_next().await.expect("one").expect("it ran");
    assert!(matches!(got, Err(TokenError::Revoked { .. })), "{got:?}");
    pass(10_000);
    let again = bench.refresher.token(it).await;
    assert!(
        matches!(again, Err(TokenError::Revoked { said: None })),
        "{again:?}"
    );
    assert_eq!(authority.asked(), 1);
}

#[tokio::test]
async fn what_is_due_is_refreshed_before_anybody_asks() {
    let (bench, authority) = (Bench::new().await, Authority::start(good()).await);
    let soon = bench
        .credential(&authority, within(60), TokenAuth::None)
        .await;
    let later = bench
        .credential(&authority, within(3_000), TokenAuth::None)
        .await;
    looks(&bench.refresher, async || {
        bench.stored(soon).await.token.expose() == access_token(1)
    })
    .await;
    assert_eq!(bench.stored(later).await.token.expose(), access_token(0));
    assert_eq!(authority.granted(), 1);
    let due = bench.store.refreshes_due(now(), 10).await.expect("listed");
    assert_eq!(due, [], "each has its time");
}
