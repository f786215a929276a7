//! `sessions watch`: a session as it happens, and the keyboard that answers it. It shows and sends; what the
//! session makes of it is the server's matter. Leaving the view changes nothing in the session.

mod asked;
mod screen;

use std::collections::HashSet;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::asked::{Answer, Asked};
use self::screen::Screen;
use crate::cli::Watch;
use crate::client::{Client, Refused};
use crate::stream::Stream;
use crate::things::segment;
use crate::{sessions, view};

/// How long a lost connection is tried again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// Lines that a person may type ahead.
const TYPED: usize = 16;

const HELP: &str = "\
A line is sent as a message, or answers what is asked. Besides:
  /interrupt   end the turn that runs
  /quit        leave this view; the session goes on (Ctrl-C and Ctrl-D do the same)";

/// `longhand sessions watch`
///
/// # Errors
/// What the server answered, or that it cannot be reached any more.
pub async fn run(command: &Watch, client: &Client) -> anyhow::Result<()> {
    segment(&command.id)?;
    let live = view::is_terminal() && !command.json;
    let stream = match client.is_served() {
        true => Some(client.stream(&command.id, None).await?),
        false => None,
    };
    let mut viewer = Viewer {
        command,
        client,
        live,
        screen: Screen::default(),
        asked: Asked::default(),
        known: HashSet::new(),
        last: None,
        over: false,
        idle: false,
    };
    viewer.past().await?;
    let Some(stream) = stream else {
        eprintln!("No server runs, so nothing happens; start one with `longhand serve`.");
        return Ok(());
    };
    if viewer.over || (command.until_idle && viewer.idle) {
        return Ok(());
    }
    let typed = (live && std::io::stdin().is_terminal()).then(keyboard);
    if typed.is_some() {
        eprintln!("{HELP}");
        viewer.prompt()?;
    }
    viewer.follow(stream, typed).await
}

struct Viewer<'v> {
    command: &'v Watch,
    client: &'v Client,
    /// For a person.
    live: bool,
    screen: Screen,
    asked: Asked,
    /// Events of the past, which the stream may show again, and whether they had their place.
    known: HashSet<(String, bool)>,
    /// The last event that has its place: where a new stream goes on.
    last: Option<String>,
    /// Nothing will come any more.
    over: bool,
    idle: bool,
}

impl Viewer<'_> {
    async fn past(&mut self) -> anyhow::Result<()> {
        let path = format!(
            "/v1/sessions/{}/events?order=desc&limit={}",
            self.command.id,
            self.command.last.clamp(1, 1_000)
        );
        let mut events = self.client.list(&path, Some(self.command.last)).await?;
        events.reverse();
        // What waits has no place yet, and is shown last whatever the order.
        events.sort_by_key(|event| event["processed_at"].is_null());
        for event in &events {
            self.known.insert(identity(event));
            self.show(event)?;
        }
        Ok(())
    }

    async fn follow(
        &mut self,
        mut stream: Stream,
        mut typed: Option<mpsc::Receiver<String>>,
    ) -> anyhow::Result<()> {
        loop {
            let line = async {
                match &mut typed {
                    Some(typed) => typed.recv().await,
                    None => std::future::pending().await,
                }
            };
            // Both branches are cancel safe: what has arrived stays in the stream or in the channel.
            tokio::select! {
                event = stream.next() => match event {
                    Ok(Some(event)) => self.seen(&event)?,
                    Ok(None) if self.over || self.is_closed().await? => return Ok(()),
                    Ok(None) | Err(_) => stream = self.again().await?,
                },
                line = line => match line {
                    Some(line) => if self.typed(line.trim()).await? { return Ok(()) },
                    None => return Ok(()),
                },
            }
            if self.over || (self.command.until_idle && self.idle) {
                return Ok(());
            }
        }
    }

    /// An event of the stream.
    fn seen(&mut self, event: &Value) -> anyhow::Result<()> {
        let kind = event["type"].as_str().unwrap_or_default();
        if kind == "event_start" || kind == "event_delta" {
            return match self.live {
                true => Ok(self.screen.preview(event)?),
                false if self.command.deltas => Ok(json_line(event)?),
                false => Ok(()),
            };
        }
        if self.known.remove(&identity(event)) {
            return Ok(());
        }
        self.show(event)?;
        if self.live && self.idle {
            self.prompt()?;
        }
        Ok(())
    }

    fn show(&mut self, event: &Value) -> anyhow::Result<()> {
        let kind = event["type"].as_str().unwrap_or_default();
        if !event["processed_at"].is_null() {
            self.last = event["id"].as_str().map(str::to_owned);
        }
        match kind {
            "session.status_idle" => self.idle = true,
            "session.status_running" | "session.status_rescheduled" => self.idle = false,
            "session.status_terminated" | "session.deleted" => self.over = true,
            _ => {}
        }
        self.asked.see(event);
        if self.live {
            self.screen.event(event)?;
        } else {
            json_line(event)?;
        }
        Ok(())
    }

    /// What is asked, or that a message may be typed.
    fn prompt(&self) -> anyhow::Result<()> {
        let mut out = anstream::stdout().lock();
        match self.asked.first() {
            Some(ask) => write!(out, "{ask}")?,
            None if self.idle => write!(out, "> ")?,
            None => {}
        }
        Ok(out.flush()?)
    }

    /// Does what a line says; true to leave.
    async fn typed(&mut self, line: &str) -> anyhow::Result<bool> {
        let event = match line {
            "/quit" | "/q" => return Ok(true),
            "/help" => {
                eprintln!("{HELP}");
                None
            }
            "/interrupt" => Some(json!({"type": "user.interrupt"})),
            "" => None,
            line => match self.asked.answer(line) {
                Answer::Send(event) => Some(event),
                Answer::Unclear(say) => {
                    eprintln!("{say}");
                    None
                }
                Answer::NothingAsked => Some(sessions::message(line)),
            },
        };
        let Some(event) = event else {
            self.prompt()?;
            return Ok(false);
        };
        match sessions::post(self.client, &self.command.id, &[event]).await {
            // The stream shows it, and what comes of it.
            Ok(_) => self.asked.answered(),
            Err(error) => eprintln!("not sent: {error:#}"),
        }
        if self.asked.first().is_some() {
            self.prompt()?;
        }
        Ok(false)
    }

    /// Whether the server ended the stream because nothing will come any more.
    async fn is_closed(&self) -> anyhow::Result<bool> {
        let path = format!("/v1/sessions/{}", self.command.id);
        match self.client.get(&path).await {
            Ok(session) => {
                Ok(session["status"] == "terminated" || !session["archived_at"].is_null())
            }
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(refused) if refused.status == 404 => Ok(true),
                // It is going down; whether it comes back is seen by trying.
                _ => Ok(false),
            },
        }
    }

    /// Opens the stream again where it broke.
    async fn again(&mut self) -> anyhow::Result<Stream> {
        eprintln!("\nthe connection is lost; trying again");
        let (begun, mut pause) = (Instant::now(), Duration::from_millis(250));
        loop {
            let opened = self.client.stream(&self.command.id, self.last.as_deref());
            let error = match opened.await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            let refused = error.downcast_ref::<Refused>();
            if refused.is_some_and(|refused| refused.status < 500) {
                return Err(error);
            }
            if begun.elapsed() > PATIENCE {
                return Err(error).with_context(|| format!("tried for {} s", PATIENCE.as_secs()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// What is shown once: an event that waits, and the same when it has its place.
fn identity(event: &Value) -> (String, bool) {
    let id = event["id"].as_str().unwrap_or_default();
    (id.to_owned(), !event["processed_at"].is_null())
}

fn json_line(event: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{event}")?;
    out.flush()
}

/// The lines that a person types. The thread ends with the input or with the process: a read of a terminal
/// cannot be called off.
fn keyboard() -> mpsc::Receiver<String> {
    let (typed, lines) = mpsc::channel(TYPED);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if typed.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
