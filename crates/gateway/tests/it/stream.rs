//! Event streams: frames, resuming, previews, pings and slow readers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use contract::ids::{EventId, ThreadId};
use gateway::Config;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use store::clock;
use store::feed::{Preview, PreviewKind};

use crate::support::{PATIENCE, Server, session_id};

/// One frame.
#[derive(Debug, Clone, PartialEq)]
struct Frame {
    id: Option<String>,
    event: Option<String>,
    data: Option<Value>,
    comment: Option<String>,
}

/// A stream being read.
struct Reader {
    body: Body,
    text: String,
    frames: VecDeque<Frame>,
    /// The data of all frames that were returned, pings left out.
    seen: Vec<Value>,
}

impl Reader {
    async fn open(server: &Server, path: &str, last: Option<&str>) -> Self {
        let mut ask = server.ask(Method::GET, path);
        if let Some(last) = last {
            ask = ask.header("last-event-id", last);
        }
        let response = ask.open().await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(response.headers().contains_key("request-id"));
        Self {
            body: response.into_body(),
            text: String::new(),
            frames: VecDeque::new(),
            seen: Vec::new(),
        }
    }

    /// The next frame; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            let piece = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .expect("a frame")?;
            self.text
                .push_str(std::str::from_utf8(&piece.unwrap().into_data().unwrap()).unwrap());
            while let Some((frame, rest)) = self.text.split_once("\n\n") {
                self.frames.push_back(parse(frame));
                self.text = rest.to_owned();
            }
        }
    }

    /// Everything that was shown so far and is still on its way, as data.
    async fn rest(&mut self, server: &Server, session: &str) -> Vec<Value> {
        let title = format!("the end {}", clock::entropy());
        server
            .post(&format!("/v1/sessions/{session}"), json!({"title": title}))
            .await;
        while self
            .seen
            .last()
            .is_none_or(|data| data["title"] != json!(title))
        {
            self.until("session.updated").await;
        }
        self.seen.clone()
    }

    /// The next frames up to one of this type, pings left out.
    async fn until(&mut self, kind: &str) -> Vec<Frame> {
        let mut seen = Vec::new();
        loop {
            let frame = self
                .next()
                .await
                .unwrap_or_else(|| panic!("ended before {kind}: {seen:?}"));
            if frame.event.as_deref() == Some("ping") {
                continue;
            }
            self.seen.extend(frame.data.clone());
            let found = frame.kind() == kind;
            seen.push(frame);
            if found {
                return seen;
            }
        }
    }
}

impl Frame {
    fn kind(&self) -> &str {
        self.data
            .as_ref()
            .and_then(|data| data["type"].as_str())
            .unwrap_or_default()
    }
}

fn parse(text: &str) -> Frame {
    let mut frame = Frame {
        id: None,
        event: None,
        data: None,
        comment: None,
    };
    for line in text.lines() {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
        match name {
            "id" => frame.id = Some(value.to_owned()),
            "event" => frame.event = Some(value.to_owned()),
            "data" => frame.data = Some(serde_json::from_str(value).unwrap()),
            "" => frame.comment = Some(value.to_owned()),
            other => panic!("{other}"),
        }
    }
    frame
}

fn path(session: &str) -> String {
    format!("/v1/sessions/{session}/events/stream")
}

fn kinds(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(Frame::kind).collect()
}

#[tokio::test]
async fn frames_carry_id_and_type_and_follow_the_log() {
    let server = Server::start().await;
    let id = server.session().await;
    server.turn(&id, "before").await;
    let before = server.log(&id).await.len();
    let mut reader = Reader::open(&server, &path(&id), None).await;
    server.turn(&id, "now").await;
    let frames = reader.until("session.status_idle").await;
    let log = server.log(&id).await;
    let data = frames
        .iter()
        .map(|frame| frame.data.clone().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(
        data,
        log[before..],
        "only events from now on, as the list shows them"
    );
    for frame in &frames {
        let data = frame.data.as_ref().unwrap();
        assert_eq!(frame.id.as_deref(), data["id"].as_str());
        let name = if frame.kind() == "session.usage" {
            "message"
        } else {
            frame.kind()
        };
        assert_eq!(
            frame.event.as_deref(),
            Some(name),
            "old SDKs drop names they do not know"
        );
    }
}

#[tokio::test]
async fn a_resumed_stream_has_no_gap_and_no_repeat() {
    let server = Server::start().await;
    let id = server.session().await;
    server.turn(&id, "one").await;
    server.turn(&id, "two").await;
    let log = server.log(&id).await;
    for at in [0, 4, log.len() - 1] {
        let last = log[at]["id"].as_str().unwrap();
        let mut reader = Reader::open(&server, &path(&id), Some(last)).await;
        // Nothing is read yet: the feed collects what the replay will show as well.
        server
            .post(
                &format!("/v1/sessions/{id}"),
                json!({"title": format!("t{at}")}),
            )
            .await;
        reader.until("session.updated").await;
        assert_eq!(
            reader.rest(&server, &id).await,
            server.log(&id).await[at + 1..],
            "from {at}"
        );
    }
    for bad in ["nonsense", "sevt_1111111111111111111111"] {
        let ask = server
            .ask(Method::GET, &path(&id))
            .header("last-event-id", bad);
        let answer = ask.send().await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(
            answer.message().starts_with("Last-Event-ID"),
            "{}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn a_message_that_waits_is_announced_once_without_an_id_line() {
    let server = Server::start().await;
    let id = server.session().await;
    server.say(&id, "go").await;
    let claimed = server.claim(&id).await;
    let mut reader = Reader::open(&server, &path(&id), None).await;
    server.say(&id, "also").await;
    let message = EventId::from_bits(clock::id_bits(clock::now()));
    server
        .reply(&claimed, Some((message, "x")), Vec::new())
        .await;
    let frames = reader.until("span.model_request_start").await;
    let same = frames
        .iter()
        .filter(|f| f.kind() == "user.message")
        .collect::<Vec<_>>();
    assert_eq!(same.len(), 2, "{frames:?}");
    let (announced, placed) = (
        same[0].data.as_ref().unwrap(),
        same[1].data.as_ref().unwrap(),
    );
    assert_eq!(announced["id"], placed["id"]);
    assert_eq!(
        (&announced["processed_at"], &same[0].id),
        (&Value::Null, &None)
    );
    assert!(placed["processed_at"].is_string() && same[1].id.is_some());
}

#[tokio::test]
async fn a_message_that_the_replay_shows_in_its_place_is_not_announced_after_it() {
    let server = Server::start().await;
    let id = server.session().await;
    server.say(&id, "go").await;
    let claimed = server.claim(&id).await;
    let first = server.log(&id).await[0]["id"].as_str().unwrap().to_owned();
    // Nothing is read yet: the feed collects what the replay will show as well.
    let mut reader = Reader::open(&server, &path(&id), Some(&first)).await;
    server.say(&id, "also").await;
    let message = EventId::from_bits(clock::id_bits(clock::now()));
    let next = server
        .reply(&claimed, Some((message, "x")), Vec::new())
        .await;
    let message = EventId::from_bits(clock::id_bits(clock::now()));
    server.reply(&next, Some((message, "y")), Vec::new()).await;
    reader.until("session.status_idle").await;
    let seen = reader.rest(&server, &id).await;
    assert_eq!(seen, server.log(&id).await[1..]);
}

#[tokio::test]
async fn pings_come_while_nothing_else_does() {
    let config = Config {
        ping: Duration::from_millis(20),
        ..Config::default()
    };
    let server = Server::with(config).await;
    let id = server.session().await;
    let mut reader = Reader::open(&server, &path(&id), None).await;
    for _ in 0..2 {
        let frame = reader.next().await.unwrap();
        assert_eq!(frame.event.as_deref(), Some("ping"));
        assert_eq!(frame.data, Some(json!({"type": "ping"})));
        assert_eq!(frame.id, None);
    }
    server.turn(&id, "x").await;
    reader.until("session.status_idle").await;
}

async fn preview(
    server: &Server,
    session: &str,
    event: EventId,
    of: &'static str,
    kind: PreviewKind,
) {
    let json = match kind {
        PreviewKind::Start => json!({"type": "event_start", "event": {"type": of, "id": event}}),
        PreviewKind::Delta => json!({"type": "event_delta", "event_id": event, "delta": {
            "type": "content_delta", "index": 0, "content": {"type": "text", "text": "h"}}}),
    };
    let thread = server.thread(session).await;
    preview_on(server, session, thread, event, of, kind, json);
}

fn preview_on(
    server: &Server,
    session: &str,
    thread: ThreadId,
    event: EventId,
    of: &'static str,
    kind: PreviewKind,
    json: Value,
) {
    let json = Arc::from(json.to_string());
    let preview = Preview {
        thread,
        event,
        of,
        kind,
        json,
    };
    server.store.publish_preview(session_id(session), preview);
}

#[tokio::test]
async fn previews_come_only_where_they_were_asked_for() {
    let server = Server::start().await;
    let id = server.session().await;
    server.say(&id, "go").await;
    let claimed = server.claim(&id).await;
    let asked = format!("{}?event_deltas[]=agent.message", path(&id));
    let mut with = Reader::open(&server, &asked, None).await;
    let mut without = Reader::open(&server, &path(&id), None).await;
    let message = EventId::from_bits(clock::id_bits(clock::now()));
    let thinking = EventId::from_bits(clock::id_bits(clock::now()));
    preview(&server, &id, thinking, "agent.thinking", PreviewKind::Start).await;
    preview(&server, &id, message, "agent.message", PreviewKind::Start).await;
    preview(&server, &id, message, "agent.message", PreviewKind::Delta).await;
    let start = json!({"type": "event_start", "event": {"type": "agent.message", "id": thinking}});
    let other = ThreadId::from_bits(1);
    let kind = PreviewKind::Start;
    preview_on(&server, &id, other, thinking, "agent.message", kind, start);
    let mut late = Reader::open(&server, &asked, None).await;
    preview(&server, &id, message, "agent.message", PreviewKind::Delta).await;
    server
        .reply(&claimed, Some((message, "hh")), Vec::new())
        .await;
    preview(&server, &id, message, "agent.message", PreviewKind::Delta).await;
    server
        .post(&format!("/v1/sessions/{id}"), json!({"title": "end"}))
        .await;

    let frames = with.until("session.updated").await;
    let seen = kinds(&frames);
    let start = ["event_start", "event_delta", "event_delta", "agent.message"];
    assert_eq!(
        seen[..4],
        start,
        "the buffered event is the last thing of its id"
    );
    assert!(!seen[4..].contains(&"event_delta"));
    let previews = frames.iter().filter(|f| f.kind().starts_with("event_"));
    for frame in previews {
        assert_eq!(
            (frame.event.as_deref(), &frame.id),
            (Some(frame.kind()), &None)
        );
    }
    for reader in [&mut without, &mut late] {
        let frames = reader.until("session.updated").await;
        assert!(
            kinds(&frames)
                .iter()
                .all(|kind| !kind.starts_with("event_")),
            "{frames:?}"
        );
        assert_eq!(frames[0].kind(), "agent.message");
    }
    for bad in [
        "event_deltas[]=agent.tool_use",
        "event_deltas[]=",
        "types[]=agent.message",
    ] {
        let answer = server.get(&format!("{}?{bad}", path(&id))).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_stream_of_the_primary_thread_is_the_same() {
    let server = Server::start().await;
    let id = server.session().await;
    let thread = server.get(&format!("/v1/sessions/{id}/threads")).await.body;
    let thread = thread["data"][0]["id"].as_str().unwrap().to_owned();
    let on_thread = format!("/v1/sessions/{id}/threads/{thread}/stream");
    let mut reader = Reader::open(&server, &on_thread, None).await;
    server.turn(&id, "x").await;
    let frames = reader.until("session.status_idle").await;
    let data = frames
        .into_iter()
        .map(|frame| frame.data.unwrap())
        .collect::<Vec<_>>();
    assert_eq!(data, server.log(&id).await);
}

#[tokio::test]
async fn a_stream_ends_after_the_session_is_deleted() {
    let server = Server::start().await;
    let id = server.session().await;
    let mut reader = Reader::open(&server, &path(&id), None).await;
    server.delete(&format!("/v1/sessions/{id}")).await;
    let frames = reader.until("session.deleted").await;
    assert_eq!(frames.len(), 1);
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn a_stream_ends_after_the_session_is_archived_and_at_once_if_it_was() {
    let server = Server::start().await;
    let id = server.session().await;
    let mut reader = Reader::open(&server, &path(&id), None).await;
    server
        .post(&format!("/v1/sessions/{id}/archive"), json!({}))
        .await;
    reader.until("session.status_terminated").await;
    assert_eq!(reader.next().await, None);
    let mut late = Reader::open(&server, &path(&id), None).await;
    assert_eq!(late.next().await, None, "nothing will ever happen in it");
    let first = server.log(&id).await[0]["id"].clone();
    let mut resumed = Reader::open(&server, &path(&id), first.as_str()).await;
    resumed.until("session.status_terminated").await;
    assert_eq!(resumed.next().await, None);
}

#[tokio::test]
async fn a_stream_ends_with_a_comment_when_the_server_stops() {
    let server = Server::start().await;
    let id = server.session().await;
    let mut reader = Reader::open(&server, &path(&id), None).await;
    server.shutdown.cancel();
    let frame = reader.next().await.unwrap();
    assert_eq!((frame.event, frame.data), (None, None));
    assert!(frame.comment.is_some());
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn a_reader_that_lags_is_told_why_and_can_resume() {
    let server = Server::with(Config {
        subscriber_lag: 4,
        ..Config::default()
    })
    .await;
    let id = server.session().await;
    let mut slow = Reader::open(&server, &path(&id), None).await;
    server.turn(&id, "more than four events").await;
    let mut seen = Vec::new();
    let error = loop {
        let frame = slow.next().await.expect("a final frame");
        if frame.event.as_deref() == Some("error") {
            break frame.data.unwrap();
        }
        seen.push(frame);
    };
    assert_eq!(error["type"], "error");
    assert_eq!(error["error"]["type"], "overloaded_error");
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("fast enough")
    );
    assert!(error["request_id"].is_string());
    assert_eq!(slow.next().await, None);

    let log = server.log(&id).await;
    let (last, rest) = match seen.last() {
        Some(frame) => {
            let id = frame.id.clone().unwrap();
            let at = log.iter().position(|e| e["id"] == json!(id)).unwrap();
            (id, log[at + 1..].to_vec())
        }
        None => (log[0]["id"].as_str().unwrap().to_owned(), log[1..].to_vec()),
    };
    let mut again = Reader::open(&server, &path(&id), Some(&last)).await;
    for expected in rest {
        assert_eq!(again.next().await.unwrap().data.unwrap(), expected);
    }
}
