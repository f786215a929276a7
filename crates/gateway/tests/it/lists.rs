//! Paging: cursors go on where a page ended, both ways on sessions, and bind what they must.

use std::collections::BTreeSet;

use contract::ids::EventId;
use serde_json::{Value, json};
use store::clock;

use crate::support::{Server, agent, environment};

fn ids(page: &Value) -> Vec<String> {
    let data = page["data"].as_array().unwrap_or_else(|| panic!("{page}"));
    data.iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Follows `next_page` to the end.
async fn walk(server: &Server, path: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut page = String::new();
    loop {
        let answer = server.get(&format!("{path}{page}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.get("has_more").is_none());
        pages.push(ids(&answer.body));
        match answer.body["next_page"].as_str() {
            Some(next) => page = format!("&page={next}"),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn every_list_pages_newest_first_without_gap_or_repeat() {
    let server = Server::start().await;
    let vault = server
        .create("/v1/vaults", json!({"display_name": "v"}))
        .await;
    let credentials = format!("/v1/vaults/{vault}/credentials");
    for n in 0..5 {
        server.create("/v1/agents", agent()).await;
        server.create("/v1/environments", environment()).await;
        let url = format!("https://mcp{n}.example/");
        let auth = json!({"type": "static_bearer", "token": "t", "mcp_server_url": url});
        server.create(&credentials, json!({"auth": auth})).await;
    }
    for n in 0..4 {
        server
            .create("/v1/vaults", json!({"display_name": format!("v{n}")}))
            .await;
    }
    for list in ["/v1/agents", "/v1/environments", "/v1/vaults", &credentials] {
        let whole = ids(&server.get(list).await.body);
        assert_eq!(whole.len(), 5, "{list}");
        let pages = walk(&server, &format!("{list}?limit=2")).await;
        assert_eq!(
            pages.iter().map(Vec::len).collect::<Vec<_>>(),
            [2, 2, 1],
            "{list}"
        );
        assert_eq!(pages.concat(), whole, "{list}");
        let first = server.get(&format!("{list}?limit=2")).await.body;
        assert!(
            first.get("prev_page").is_none(),
            "{list}: only sessions page back"
        );
    }
}

#[tokio::test]
async fn sessions_page_both_ways_in_both_orders() {
    let server = Server::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(server.session().await);
    }
    for order in ["asc", "desc"] {
        let path = format!("/v1/sessions?limit=2&order={order}");
        let first = server.get(&path).await.body;
        assert_eq!(first["prev_page"], Value::Null, "null on the first page");
        let go = async |page: &Value| {
            server
                .get(&format!("{path}&page={}", page.as_str().unwrap()))
                .await
                .body
        };
        let second = go(&first["next_page"]).await;
        let third = go(&second["next_page"]).await;
        assert_eq!(third["next_page"], Value::Null, "null on the last page");
        let mut seen = [ids(&first), ids(&second), ids(&third)].concat();
        if order == "desc" {
            seen.reverse();
        }
        assert_eq!(seen, made, "{order}");
        assert_eq!(ids(&go(&third["prev_page"]).await), ids(&second));
        let back = go(&second["prev_page"]).await;
        assert_eq!(
            (ids(&back), &back["prev_page"]),
            (ids(&first), &Value::Null)
        );
    }
}

#[tokio::test]
async fn a_cursor_is_refused_where_it_does_not_belong() {
    let server = Server::start().await;
    for _ in 0..2 {
        server.session().await;
    }
    let path = "/v1/sessions?limit=1";
    let page = server.get(path).await.body["next_page"]
        .as_str()
        .unwrap()
        .to_owned();
    let refused = async |path: &str, message: &str| {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.message()), (400, message), "{path}");
    };
    let order = "page token order does not match request";
    refused(&format!("{path}&order=asc&page={page}"), order).await;
    let bad = "invalid page cursor";
    refused(&format!("/v1/agents?page={page}"), bad).await;
    let bound = "created_at[gte]=2020-01-01T00:00:00Z";
    refused(&format!("{path}&{bound}&page={page}"), bad).await;
    for list in [
        "/v1/agents",
        "/v1/environments",
        "/v1/sessions",
        "/v1/vaults",
    ] {
        for text in ["x", "!!", "AQ", &page[1..], "null", "%00"] {
            let answer = server.get(&format!("{list}?page={text}")).await;
            assert_eq!(answer.status, 400, "{list} {text}: {}", answer.body);
        }
    }
    let other = format!("{path}&statuses[]=idle&include_archived=true&page={page}");
    assert_eq!(
        server.get(&other).await.status,
        200,
        "other filters may change between pages"
    );
}

#[tokio::test]
async fn sessions_are_filtered() {
    let server = Server::start().await;
    let (first, second) = (server.session().await, server.session().await);
    server.say(&second, "go").await;
    let agent = server.get(&format!("/v1/sessions/{first}")).await.body["agent"]["id"].clone();
    let agent = agent.as_str().unwrap();
    let list = async |query: &str| ids(&server.get(&format!("/v1/sessions?{query}")).await.body);
    assert_eq!(
        list("statuses[]=running").await,
        std::slice::from_ref(&second)
    );
    assert_eq!(
        list("statuses%5B%5D=idle").await,
        std::slice::from_ref(&first)
    );
    assert_eq!(list("statuses=idle&statuses=running").await.len(), 2);
    assert_eq!(
        list(&format!("agent_id={agent}")).await,
        std::slice::from_ref(&first)
    );
    assert_eq!(
        list(&format!("agent_id={agent}&agent_version=2")).await,
        Vec::<String>::new()
    );
    assert_eq!(
        list("created_at[lt]=2020-01-01T00:00:00Z").await,
        Vec::<String>::new()
    );
    assert_eq!(
        list("created_at%5Bgte%5D=2020-01-01T00%3A00%3A00%2B00%3A00")
            .await
            .len(),
        2
    );
    let digits = "1111111111111111111111";
    for filter in ["deployment_id=depl_", "memory_store_id=memstore_"] {
        let none = list(&format!("{filter}{digits}")).await;
        assert_eq!(none, Vec::<String>::new(), "{filter}");
    }
    for bad in [
        "statuses[]=lost",
        "agent_version=1",
        "agent_id=x",
        "deployment_id=x",
        "memory_store_id=x",
        "created_at[gte]=noon",
        "order=up",
        "include_archived=maybe",
    ] {
        let answer = server.get(&format!("/v1/sessions?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.body);
    }
}

#[tokio::test]
async fn events_page_by_place_and_filter_by_type_and_time() {
    let server = Server::start().await;
    let id = server.session().await;
    server.turn(&id, "one").await;
    server.turn(&id, "two").await;
    let path = format!("/v1/sessions/{id}/events");
    let whole = ids(&server.get(&path).await.body);
    assert_eq!(whole.len(), 18);
    assert_eq!(
        walk(&server, &format!("{path}?limit=5")).await.concat(),
        whole
    );
    let mut back = walk(&server, &format!("{path}?limit=7&order=desc"))
        .await
        .concat();
    back.reverse();
    assert_eq!(back, whole);
    let answer = server
        .get(&format!(
            "{path}?types[]=agent.message&types[]=user.message"
        ))
        .await;
    let kinds = answer.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["type"].clone());
    let expected = [
        "user.message",
        "agent.message",
        "user.message",
        "agent.message",
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
    let log = server.log(&id).await;
    let middle = log[9]["processed_at"].as_str().unwrap();
    let rest = ids(&server
        .get(&format!("{path}?created_at[gte]={middle}"))
        .await
        .body);
    assert_eq!(rest, whole[9..]);
    let rest = ids(&server
        .get(&format!("{path}?created_at[gt]={middle}&limit=100"))
        .await
        .body);
    assert_eq!(rest, whole[10..]);
    for bad in [
        "types[]=agent.dream",
        "event_ids=1",
        "include_archived=true",
    ] {
        assert_eq!(
            server.get(&format!("{path}?{bad}")).await.status,
            400,
            "{bad}"
        );
    }
    let page = server.get(&format!("{path}?limit=5")).await.body["next_page"].clone();
    let page = page.as_str().unwrap();
    let answer = server.get(&format!("{path}?order=desc&page={page}")).await;
    assert_eq!(answer.message(), "page token order does not match request");
    let other = server.session().await;
    let answer = server
        .get(&format!("/v1/sessions/{other}/events?page={page}"))
        .await;
    assert_eq!(
        answer.message(),
        "invalid page cursor",
        "a cursor is of one session"
    );
}

#[tokio::test]
async fn a_message_that_waits_is_listed_last_and_keeps_its_id() {
    let server = Server::start().await;
    let id = server.session().await;
    server.say(&id, "go").await;
    let claimed = server.claim(&id).await;
    let echo = server.say(&id, "also this").await.body["data"][0].clone();
    assert_eq!(echo["processed_at"], Value::Null);
    let log = server.log(&id).await;
    assert_eq!(log.last().unwrap()["id"], echo["id"]);
    assert_eq!(log.last().unwrap()["processed_at"], Value::Null);
    let path = format!("/v1/sessions/{id}/events?limit=2");
    let pages = walk(&server, &path).await.concat();
    assert_eq!(pages.iter().collect::<BTreeSet<_>>().len(), pages.len());
    assert_eq!(pages.last().unwrap(), echo["id"].as_str().unwrap());
    let message = EventId::from_bits(clock::id_bits(clock::now()));
    server
        .reply(&claimed, Some((message, "first")), Vec::new())
        .await;
    let log = server.log(&id).await;
    let placed = log
        .iter()
        .filter(|e| e["id"] == echo["id"])
        .collect::<Vec<_>>();
    assert_eq!(placed.len(), 1);
    assert!(placed[0]["processed_at"].is_string());
}

#[tokio::test]
async fn models_are_listed_by_id() {
    let server = Server::start().await;
    let all = server.get("/v1/models?limit=1000").await.body;
    let known = ids(&all);
    assert!(known.len() > 3, "{all}");
    assert_eq!(all["has_more"], false);
    assert_eq!(all["first_id"], json!(known[0]));
    let first = server.get("/v1/models?limit=2").await.body;
    assert_eq!(
        (ids(&first), &first["has_more"]),
        (known[..2].to_vec(), &json!(true))
    );
    let after = server
        .get(&format!("/v1/models?limit=2&after_id={}", known[1]))
        .await
        .body;
    assert_eq!(ids(&after)[0], known[2]);
    let before = server
        .get(&format!("/v1/models?limit=1&before_id={}", known[2]))
        .await
        .body;
    assert_eq!(ids(&before), [known[1].clone()]);
    let one = server.get(&format!("/v1/models/{}", known[0])).await;
    assert_eq!((one.status, &one.body["type"]), (200, &json!("model")));
    assert_eq!(server.get("/v1/models/none-such").await.status, 404);
    assert_eq!(
        server.get("/v1/models?after_id=none-such").await.status,
        400
    );
}
