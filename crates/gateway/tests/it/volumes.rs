//! `/v1/x/volumes` over real sandboxes: whose volumes one sees, what a session and an operator's sandbox get of them,
//! and what is refused by its path.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, agent, environment};

const ALL: &str = "/v1/x/volumes";

/// Runs a script in a sandbox.
async fn shell(server: &Server, id: &str, script: &str) -> Answer {
    let path = format!("/v1/x/sandboxes/{id}/exec");
    let command = json!({"command": ["/bin/sh", "-c", script]});
    server.post(&path, command).await
}

/// A session whose own metadata, and its environment's, name volumes.
async fn session(server: &Server, own: Option<&str>, general: Option<&str>) -> Answer {
    let said = |value: Option<&str>| match value {
        Some(value) => json!({"longhand.volumes": value}),
        None => json!({}),
    };
    let agent = server.create("/v1/agents", agent()).await;
    let mut place = environment();
    place["name"] = json!(format!("{general:?} {own:?}"));
    place["metadata"] = said(general);
    let place = server.create("/v1/environments", place).await;
    let body = json!({"agent": agent, "environment_id": place, "metadata": said(own)});
    server.post("/v1/sessions", body).await
}

#[tokio::test]
async fn sessions_get_the_volumes_that_they_or_their_environments_name() {
    let server = Server::with_sandboxes(|_| {}).await;
    for name in ["cache", "data"] {
        let made = server.post(ALL, json!({"name": name})).await;
        assert_eq!(
            (made.status, &made.body["name"]),
            (200, &json!(name)),
            "{}",
            made.body
        );
        assert_eq!(made.body["size_mib"], json!(10_240));
    }
    let first = session(&server, Some("cache,data"), None).await;
    let first = first.body["id"].as_str().unwrap().to_owned();
    let wrote = shell(&server, &first, "echo it > /mnt/volumes/data/file").await;
    assert_eq!(wrote.body["exit_code"], 0, "{}", wrote.body);
    let second = session(&server, None, Some("data:ro")).await;
    let second = second.body["id"].as_str().unwrap().to_owned();
    let script = "cat /mnt/volumes/data/file; ls /mnt/volumes; echo x > /mnt/volumes/data/file";
    let read = shell(&server, &second, script).await;
    assert_eq!(read.body["stdout"], "it\ndata\n", "{}", read.body);
    assert_ne!(read.body["exit_code"], 0);
    // Its own word is before its environment's.
    let third = session(&server, Some(""), Some("data:ro")).await;
    let third = third.body["id"].as_str().unwrap().to_owned();
    let none = shell(&server, &third, "ls /mnt/volumes").await;
    assert_ne!(none.body["exit_code"], 0, "{}", none.body);

    for (own, general, says) in [
        (Some("nothing"), None, "no volume"),
        (None, Some("nothing"), "no volume"),
        (Some("data:rw"), None, ":ro"),
        (Some("data,data"), None, "twice"),
    ] {
        let refused = session(&server, own, general).await;
        assert_eq!(refused.status, 400, "{own:?} {general:?}: {}", refused.body);
        let said = refused.message();
        assert!(
            said.contains("metadata.longhand.volumes") && said.contains(says),
            "{said}"
        );
    }
    let one = server.get(&format!("{ALL}/data")).await;
    let mut having: Vec<&Value> = one.body["sandboxes"].as_array().unwrap().iter().collect();
    having.sort_by_key(|id| id.as_str());
    let mut wanted = [json!(first), json!(second)];
    wanted.sort_by_key(|id| id.as_str().map(str::to_owned));
    assert_eq!(having, wanted.iter().collect::<Vec<_>>());
    assert!(
        one.body["usage"]["disk_bytes"].as_u64().unwrap() > 0,
        "{}",
        one.body
    );
    stop(&server).await;
}

#[tokio::test]
async fn volumes_are_their_workspaces_and_one_in_use_stays() {
    let server = Server::with_sandboxes(|_| {}).await;
    let made = server
        .post(ALL, json!({"name": "mine", "size_mib": 32}))
        .await;
    assert_eq!(
        (made.status, &made.body["size_mib"]),
        (200, &json!(32)),
        "{}",
        made.body
    );
    let id = made.body["id"].as_str().unwrap().to_owned();
    for (body, status, says) in [
        (json!({"name": "mine"}), 409, "already"),
        (json!({"name": "../up"}), 400, "`name`"),
        (
            json!({"name": "big", "size_mib": 1_000_000}),
            400,
            "`size_mib`",
        ),
        (json!({"name": "small", "size_mib": 1}), 400, "`size_mib`"),
        (json!({"nome": "x"}), 400, "nome"),
    ] {
        let refused = server.post(ALL, body.clone()).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.body);
        assert!(refused.message().contains(says), "{body}: {}", refused.body);
    }
    // Another workspace has names of its own, and sees and removes nothing of this one.
    let other = server.operate(Method::POST, "/v1/x/workspaces");
    let other = other.body(r#"{"name": "other"}"#).send().await;
    let key = json!({"name": "other", "workspace_id": other.body["id"]});
    let key = server.new_key(key).await;
    let asked = async |method: Method, path: &str| server.ask(method, path).key(&key).send().await;
    assert_eq!(asked(Method::GET, ALL).await.body["data"], json!([]));
    for name in [&id, "mine"] {
        for (method, how) in [(Method::GET, ""), (Method::DELETE, "?force=true")] {
            let path = format!("{ALL}/{name}{how}");
            assert_eq!(asked(method, &path).await.status, 404, "{path}");
        }
    }
    let same = server.ask(Method::POST, ALL).key(&key);
    let same = same.body(r#"{"name": "mine"}"#).send().await;
    assert_eq!(same.status, 200, "{}", same.body);
    let all = server.operate(Method::GET, ALL).send().await;
    assert_eq!(
        all.body["data"].as_array().unwrap().len(),
        2,
        "an operator sees all"
    );

    let create = |name: &str| {
        let body = json!({"id": "box", "volumes": [{"name": name, "read_only": true}]});
        server
            .operate(Method::POST, "/v1/x/sandboxes")
            .body(body.to_string())
            .send()
    };
    let refused = create("nothing").await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(
        refused.message().contains("volumes[0].name"),
        "{}",
        refused.body
    );
    assert_eq!(create("mine").await.status, 200);
    let delete = async |how: &str| server.delete(&format!("{ALL}/mine{how}")).await;
    for how in ["", "?force=true"] {
        let refused = delete(how).await;
        assert_eq!(refused.status, 409, "{}", refused.body);
        assert!(
            refused.message().contains("in use by box"),
            "{}",
            refused.body
        );
    }
    let stopped = server
        .operate(Method::POST, "/v1/x/sandboxes/box/stop")
        .send()
        .await;
    assert_eq!(stopped.status, 200, "{}", stopped.body);
    assert_eq!(delete("").await.status, 409);
    let gone = delete("?force=true").await;
    assert_eq!(
        (gone.status, &gone.body["id"], &gone.body["type"]),
        (200, &json!(id), &json!("volume_deleted")),
        "{}",
        gone.body
    );
    assert_eq!(server.get(&format!("{ALL}/{id}")).await.status, 404);
    stop(&server).await;
}

async fn stop(server: &Server) {
    let keeper = server.sandboxes.as_ref().unwrap();
    keeper.stop_all("the test is over").await;
}
