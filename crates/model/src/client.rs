//! One model request over HTTP: send, stream, judge. It owns the HTTP clients and must never retry: the
//! caller has the budget.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, Quirks};
use crate::endpoint::{Dialect, Endpoint, Origin};
use crate::error::{Error, Failure, Phase};
use crate::judge::Context;
use crate::limits;
use crate::request::{Delta, Request};
use crate::sse;
use crate::stream::{Flow, Reader, Trouble};
use crate::transcript::{Message, Reply, Usage};
use crate::{anthropic_request, anthropic_stream, headers, models};
use crate::{openai_chat_request, openai_chat_stream};
use crate::{openai_responses_request, openai_responses_stream};

/// Where deltas go while a reply arrives. Called on the caller's task; must not block.
pub type Sink<'a> = &'a mut (dyn FnMut(Delta) + Send);

/// A request as it goes out.
pub(crate) struct Asked {
    pub(crate) body: Vec<u8>,
    pub(crate) headers: HeaderMap,
}

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The operator's lift of the always-denied set, for endpoints of tenants.
    pub policy: dial::Policy,
    /// Time for name, TCP and TLS.
    pub connect: Duration,
    /// Time from the sent request to the head of the answer.
    pub first_byte: Duration,
    /// Longest silence within the answer.
    pub idle: Duration,
    /// Time for the whole request.
    pub total: Duration,
    /// Further roots that the operator trusts, as PEM.
    pub extra_roots_pem: Vec<Vec<u8>>,
    /// Where the quirks of models stand.
    pub catalog: Arc<Catalog>,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            policy: dial::Policy::default(),
            connect: limits::CONNECT,
            first_byte: limits::FIRST_BYTE,
            idle: limits::IDLE,
            total: limits::TOTAL,
            extra_roots_pem: Vec::new(),
            catalog: Arc::new(Catalog::embedded()),
        }
    }
}

/// Talks to model endpoints. Cheap to clone; make one per process: connections are pooled in it.
#[derive(Clone)]
pub struct Client {
    config: ClientConfig,
    guarded: (dial::Mode, reqwest::Client),
    exempt: (dial::Mode, reqwest::Client),
}

impl Client {
    /// A client under `config`.
    ///
    /// # Errors
    /// `reqwest::Error` when an extra root is no certificate.
    pub fn new(config: ClientConfig) -> Result<Client, reqwest::Error> {
        let options = dial::Options {
            connect_timeout: config.connect,
            read_timeout: None,
            gzip: false,
            extra_roots_pem: config.extra_roots_pem.clone(),
        };
        let with = |mode: dial::Mode| dial::client(&mode, &options).map(|client| (mode, client));
        let guarded = with(dial::Mode::guarded(config.policy.clone()))?;
        let exempt = with(dial::Mode::Exempt)?;
        Ok(Client {
            config,
            guarded,
            exempt,
        })
    }

    /// Asks `endpoint` and streams its answer: deltas to `sink`, then the whole reply. Never retries.
    /// Cancel safe: yes; dropping the future, like cancelling `cancel`, closes the connection at once.
    ///
    /// # Errors
    /// [`Failure`]: what failed and what it had cost.
    pub async fn stream(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        cancel: &CancellationToken,
        sink: Sink<'_>,
    ) -> Result<Reply, Failure> {
        let context = Context {
            endpoint,
            model: endpoint.provider_model(&request.model),
            path: path(endpoint.dialect),
        };
        let fail = |error| Failure {
            error,
            partial_usage: Usage::default(),
        };
        let body = self.body(context, request).map_err(fail)?;
        let headers = headers::of(context).map_err(fail)?;
        let mut reader: Box<dyn Reader> = match endpoint.dialect {
            Dialect::AnthropicMessages => Box::new(anthropic_stream::Messages::default()),
            Dialect::OpenAiChat => Box::new(openai_chat_stream::Chat::default()),
            Dialect::OpenAiResponses => Box::new(openai_responses_stream::Responses::default()),
        };
        let asked = Asked { body, headers };
        self.ask(context, asked, reader.as_mut(), cancel, sink)
            .await?;
        let partial_usage = reader.usage();
        reader.finish(context.model).ok_or_else(|| Failure {
            error: context.cut(),
            partial_usage,
        })
    }

    /// Sends a request that is written already, and has `reader` read the answer.
    pub(crate) async fn ask(
        &self,
        context: Context<'_>,
        asked: Asked,
        reader: &mut dyn Reader,
        cancel: &CancellationToken,
        sink: Sink<'_>,
    ) -> Result<(), Failure> {
        let mut usage = Usage::default();
        // Boxed: the future holds the whole exchange and would bloat every caller's.
        let exchange = Box::pin(self.exchange(context, asked, reader, sink, &mut usage));
        let outcome = self.limited(context, exchange, cancel).await;
        outcome.map_err(|error| Failure {
            error,
            partial_usage: usage,
        })
    }

    /// An exchange that ends with its time, or when nobody wants it any more.
    async fn limited<T>(
        &self,
        context: Context<'_>,
        exchange: impl Future<Output = Result<T, Error>>,
        cancel: &CancellationToken,
    ) -> Result<T, Error> {
        let limited = within(self.config.total, exchange, || {
            context.timeout(Phase::Total, self.config.total)
        });
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::Cancelled),
            outcome = limited => outcome,
        }
    }

    /// As [`Client::ask`], for an answer that is no stream: its body.
    pub(crate) async fn ask_whole(
        &self,
        context: Context<'_>,
        asked: Asked,
        cancel: &CancellationToken,
    ) -> Result<String, Failure> {
        let exchange = Box::pin(async {
            let mut response = self.send(context, asked).await?;
            let status = response.status().as_u16();
            if status != 200 {
                let body = self.error_body(&mut response).await;
                let error = context.status(status, response.headers(), &body);
                return Err(self.with_models(context, error).await);
            }
            self.whole(context, &mut response).await
        });
        let outcome = self.limited(context, exchange, cancel).await;
        outcome.map_err(|error| Failure {
            error,
            partial_usage: Usage::default(),
        })
    }

    /// A whole body, which must be a JSON object.
    async fn whole(&self, context: Context<'_>, response: &mut Response) -> Result<String, Error> {
        let mut body = Vec::new();
        loop {
            let limit = self.config.idle;
            let chunk = async { response.chunk().await.map_err(|_| context.cut()) };
            let chunk = within(limit, chunk, || context.timeout(Phase::Idle, limit)).await?;
            let Some(bytes) = chunk else { break };
            body.extend_from_slice(&bytes);
            if body.len() > limits::PASSED_BYTES {
                return Err(context.trouble(Trouble::TooLarge {
                    what: "bytes",
                    limit: limits::PASSED_BYTES,
                }));
            }
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
            Ok(_) => Ok(text),
            Err(_) => Err(context.garbage("a body that is no JSON object")),
        }
    }

    async fn exchange(
        &self,
        context: Context<'_>,
        asked: Asked,
        reader: &mut dyn Reader,
        sink: Sink<'_>,
        usage: &mut Usage,
    ) -> Result<(), Error> {
        let mut response = self.send(context, asked).await?;
        let status = response.status().as_u16();
        if status != 200 {
            let body = self.error_body(&mut response).await;
            let error = context.status(status, response.headers(), &body);
            return Err(self.with_models(context, error).await);
        }
        if let Some(kind) = foreign_type(&response) {
            let body = self.error_body(&mut response).await;
            return Err(context.no_stream(&kind, &body));
        }
        let read = self.read(context, &mut response, reader, sink, usage).await;
        *usage = reader.usage();
        read
    }

    /// An unknown model is named together with those that exist.
    async fn with_models(&self, context: Context<'_>, error: Error) -> Error {
        match error {
            Error::NotFound {
                endpoint,
                model,
                path,
                message,
                ..
            } => {
                let (_, client) = self.route(context);
                Error::NotFound {
                    endpoint,
                    model,
                    path,
                    message,
                    models: models::of(context, client).await,
                }
            }
            other => other,
        }
    }

    fn route(&self, context: Context<'_>) -> &(dial::Mode, reqwest::Client) {
        match context.endpoint.origin {
            Origin::Operator => &self.exempt,
            Origin::Tenant => &self.guarded,
        }
    }

    /// What is peculiar about the model.
    pub(crate) fn quirks(&self, model: &str) -> Quirks {
        self.config.catalog.quirks(model)
    }

    /// The request in the words of the endpoint's dialect.
    fn body(&self, context: Context<'_>, request: &Request) -> Result<Vec<u8>, Error> {
        let endpoint = context.endpoint;
        if !matches!(request.messages.first(), Some(Message::User(_))) {
            return Err(Error::Malformed {
                what: "its first message is not the user's".to_owned(),
            });
        }
        let quirks = self.quirks(context.model);
        let body = match endpoint.dialect {
            Dialect::AnthropicMessages => anthropic_request::body(request, context.model, quirks),
            Dialect::OpenAiChat => openai_chat_request::body(request, context.model, quirks),
            Dialect::OpenAiResponses => {
                openai_responses_request::body(request, context.model, quirks)
            }
        };
        body.map_err(|e| Error::Malformed {
            what: format!("it cannot be written as JSON: {e}"),
        })
    }

    async fn send(&self, context: Context<'_>, asked: Asked) -> Result<Response, Error> {
        let endpoint = context.endpoint;
        let (mode, client) = self.route(context);
        let url = endpoint.base_url.join(context.path);
        // The connector never asks a resolver about a literal address.
        dial::check_url(mode, &url).map_err(|reason| Error::Denied {
            endpoint: context.name(),
            reason,
        })?;
        let sent = client
            .post(url)
            .headers(asked.headers)
            .body(asked.body)
            .send();
        let limit = self.config.first_byte;
        let sent = async {
            sent.await
                .map_err(|e| context.not_sent(e, self.config.connect))
        };
        within(limit, sent, || context.timeout(Phase::FirstByte, limit)).await
    }

    /// Reads events until the reader has its end. `usage` follows, so that a cancel keeps what was known.
    async fn read(
        &self,
        context: Context<'_>,
        response: &mut Response,
        reader: &mut dyn Reader,
        sink: Sink<'_>,
        usage: &mut Usage,
    ) -> Result<(), Error> {
        let (mut parser, mut events, mut taken) = (sse::Parser::default(), Vec::new(), 0_usize);
        let cut = || context.cut();
        loop {
            let limit = self.config.idle;
            let chunk = async { response.chunk().await.map_err(|_| cut()) };
            let chunk = within(limit, chunk, || context.timeout(Phase::Idle, limit)).await?;
            let last = chunk.is_none();
            let parsed = match &chunk {
                Some(bytes) => {
                    taken = taken.saturating_add(bytes.len());
                    parser.push(bytes, &mut events)
                }
                None => parser.finish(&mut events),
            };
            if taken > limits::REPLY_BYTES {
                let what = "bytes";
                return Err(context.trouble(Trouble::TooLarge {
                    what,
                    limit: limits::REPLY_BYTES,
                }));
            }
            for event in events.drain(..) {
                match reader.event(&event, sink) {
                    Ok(Flow::More) => *usage = reader.usage(),
                    Ok(Flow::Done) => {
                        let end = response.chunk();
                        let _late = tokio::time::timeout(limits::END_GRACE, end).await;
                        return Ok(());
                    }
                    // Half an event at the end of a cut stream does not parse.
                    Err(Trouble::Garbage(_)) if last => return Err(cut()),
                    Err(trouble) => return Err(context.trouble(trouble)),
                }
            }
            parsed.map_err(|o| {
                context.trouble(Trouble::TooLarge {
                    what: o.what,
                    limit: o.limit,
                })
            })?;
            if last {
                return Ok(());
            }
        }
    }

    /// The beginning of an error's body; what cannot be read in time is left.
    async fn error_body(&self, response: &mut Response) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < limits::ERROR_BODY_BYTES {
            match tokio::time::timeout(self.config.idle.min(limits::CONNECT), response.chunk())
                .await
            {
                Ok(Ok(Some(bytes))) => body.extend_from_slice(&bytes),
                Ok(Ok(None) | Err(_)) | Err(_) => break,
            }
        }
        body.truncate(limits::ERROR_BODY_BYTES);
        body
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
    late: impl FnOnce() -> Error,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// The type of an answer that is no event stream; none if it is one or does not say.
fn foreign_type(response: &Response) -> Option<String> {
    let kind = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let is_stream = kind
        .trim_start()
        .to_ascii_lowercase()
        .starts_with("text/event-stream");
    (!is_stream).then(|| kind.to_owned())
}

pub(crate) fn path(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::AnthropicMessages => "/v1/messages",
        Dialect::OpenAiChat => "/chat/completions",
        Dialect::OpenAiResponses => "/responses",
    }
}
