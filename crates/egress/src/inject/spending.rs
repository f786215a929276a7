//! The use of credentials by one request: opened when it is judged, gone when it has ended. It must never put one
//! where its owner does not want it, nor into clear text, nor let a request out for which one cannot be had.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use contract::ids::CredentialId;
use contract::secret::Secret;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};
use vault::placeholder::{Covered, Place, Placeholder, Replaced};
use vault::scrub::Forms;

use super::body::Body;
use super::credentials::{Credential, Credentials, Opened};
use super::template::{Template, To};
use crate::audit::Record;
use crate::limits::PUT_IN_HEAD;
use crate::name::Target;

/// What a WebSocket's two sides would agree on: compressed frames, in which nothing can be looked for.
const EXTENSIONS: HeaderName = HeaderName::from_static("sec-websocket-extensions");

/// What asks for a piece of an answer, under the names that servers know it by (RFC 9110 §14.2; the second is Netscape's,
/// which Apache hears, the third Azure's). A secret that a server keeps could be read back in two halves, of which neither
/// is one; a server may always answer with the whole.
const PIECES: [HeaderName; 4] = [
    RANGE,
    HeaderName::from_static("request-range"),
    HeaderName::from_static("x-ms-range"),
    IF_RANGE,
];

/// One request's use of credentials.
pub(crate) struct Spending {
    pub(super) credentials: Arc<Credentials>,
    /// Those that are for its host, opened, by their places.
    pub(super) opened: Vec<(usize, Arc<Opened>)>,
    is_tls: bool,
    spent: Mutex<Spent>,
    forms: OnceLock<Option<Arc<Forms>>>,
}

/// What became of placeholders, for the audit.
#[derive(Default)]
pub(crate) struct Spent {
    /// Credentials that were put in.
    pub(crate) put_in: Vec<CredentialId>,
    /// Those whose placeholders went out as they are.
    pub(crate) left: Vec<CredentialId>,
    /// Why the rest of the request does not go out.
    pub(crate) denied: Option<Denied>,
}

impl Spent {
    /// Adds what became of others, in the same request before.
    pub(crate) fn join(&mut self, before: &Self) {
        for (ours, theirs) in [
            (&mut self.put_in, &before.put_in),
            (&mut self.left, &before.left),
        ] {
            for id in theirs {
                if !ours.contains(id) {
                    ours.push(*id);
                }
            }
        }
    }

    /// Says it in a record: the first of those that were put in has a field of its own.
    pub(crate) fn tell(&self, record: &mut Record) {
        record.credential = self.put_in.first().copied();
        let others = self.put_in.iter().skip(1);
        for (what, ids) in [
            ("also put in", others.collect::<Vec<_>>()),
            (
                "its placeholder went out as it is",
                self.left.iter().collect(),
            ),
        ] {
            for id in ids {
                record.reason.push_str(&format!("; {what}: {id}"));
            }
        }
    }
}

/// Why a request does not go out: one line, without any value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Denied(pub(crate) String);

impl Denied {
    /// There is no secret, or nothing opens it.
    pub(super) fn unopened(id: CredentialId) -> Self {
        Self(format!(
            "credential {id} cannot be opened; give it its secret anew"
        ))
    }

    /// That part of a request would grow by more than so many bytes.
    pub(super) fn too_much(part: &str, most: usize) -> Self {
        Self(format!(
            "credentials would make its {part} longer by more than {most} bytes; put fewer placeholders into one request"
        ))
    }
}

impl Spending {
    /// Of a request to that host; none where the sandbox has no credentials.
    pub(crate) fn of(
        credentials: &Arc<Credentials>,
        target: &Target,
        is_tls: bool,
    ) -> Option<Arc<Self>> {
        if credentials.all.is_empty() {
            return None;
        }
        let opened = credentials
            .covering(target)
            .into_iter()
            .filter_map(|place| {
                let one = credentials.all.get(place)?;
                Some((place, one.open()))
            });
        Some(Arc::new(Self {
            opened: opened.collect(),
            is_tls,
            spent: Mutex::default(),
            forms: OnceLock::new(),
            credentials: Arc::clone(credentials),
        }))
    }

    /// What became of placeholders by now.
    pub(crate) fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts credentials into a request's headers and its query: in place of placeholders, and where the operator wants
    /// them.
    ///
    /// # Errors
    /// [`Denied`]: the request does not go.
    pub(crate) fn head(
        &self,
        to: To<'_>,
        headers: &mut HeaderMap,
        query: &mut Option<String>,
    ) -> Result<(), Denied> {
        self.replace(headers, query)?;
        for (place, opened) in &self.opened {
            let one = self.credentials.all.get(*place);
            let Some((one, template)) = one.and_then(|one| Some((one, one.template.as_ref()?)))
            else {
                continue;
            };
            if !template.wants(to, query.as_deref()) {
                continue;
            }
            let secret = self.may_go(one, opened)?;
            template.put(secret, to, headers, query)?;
            self.spent().put_in.push(one.id);
        }
        Ok(())
    }

    /// Notes the certificates that the server was shown, on a connection that has no requests.
    ///
    /// # Errors
    /// [`Denied`]: it could not be shown one that it is to be shown.
    pub(crate) fn show_certificates(&self) -> Result<(), Denied> {
        for (place, opened) in &self.opened {
            let one = self.credentials.all.get(*place);
            let is_shown =
                |one: &&Credential| matches!(one.template, Some(Template::Certificate { .. }));
            if let Some(one) = one.filter(is_shown) {
                self.may_go(one, opened)?;
                self.spent().put_in.push(one.id);
            }
        }
        Ok(())
    }

    fn replace(&self, headers: &mut HeaderMap, query: &mut Option<String>) -> Result<(), Denied> {
        let found = self.found(headers, query.as_deref());
        let (mut header, mut raw, mut encoded) =
            (Covered::nothing(), Covered::nothing(), Covered::nothing());
        for placeholder in found {
            let Some(secret) = self.secret(placeholder, |one| one.header)? else {
                continue;
            };
            for (covered, place) in [
                (&mut header, Place::Header),
                (&mut raw, Place::Raw),
                (&mut encoded, Place::Query),
            ] {
                // In a `Basic` pair, or in the query, it can stand.
                let _not_there = covered.cover(placeholder, secret, place);
            }
        }
        if raw.is_empty() {
            return Ok(());
        }
        let mut room = PUT_IN_HEAD;
        let too_much = |_| Denied::too_much("head", PUT_IN_HEAD);
        for value in headers.values_mut() {
            self.fits(value, &header, &raw)?;
            let replaced = header.header(value.as_bytes(), &raw, room);
            let Some(Replaced { text, .. }) = replaced.map_err(too_much)? else {
                continue;
            };
            room = room.saturating_sub(text.len().saturating_sub(value.len()));
            *value = HeaderValue::from_bytes(&text).map_err(|_| unfit())?;
            value.set_sensitive(true);
        }
        let plain = query.as_deref().unwrap_or_default();
        let replaced = encoded.whole(plain.as_bytes(), room).map_err(too_much)?;
        if let Some(Replaced { text, .. }) = replaced {
            let text = std::str::from_utf8(&text).map_err(|_| unfit())?;
            *query = Some(text.to_owned());
        }
        Ok(())
    }

    /// What is put into the body of a request with those headers; none if nothing can be.
    pub(crate) fn body(self: &Arc<Self>, headers: &HeaderMap) -> Body {
        let place = place(headers);
        let (mut covered, mut denied, mut changes) = (Covered::nothing(), Vec::new(), false);
        for one in self
            .credentials
            .all
            .iter()
            .filter(|one| one.template.is_none())
        {
            match self.secret_of(one.placeholder, |one| one.body) {
                Ok(Some(secret)) => {
                    changes = true;
                    // Only a header refuses one.
                    let _fits = covered.cover(one.placeholder, secret, place);
                }
                Ok(None) => covered.watch(one.placeholder),
                Err(why) => {
                    changes = true;
                    covered.watch(one.placeholder);
                    denied.push((one.placeholder, why));
                }
            }
        }
        Body::new(Arc::clone(self), covered, denied, changes)
    }

    /// The secrets in the forms in which an answer may repeat them; none if there are none.
    pub(crate) fn forms(&self) -> Option<Arc<Forms>> {
        self.forms.get_or_init(|| self.make_forms()).clone()
    }

    fn make_forms(&self) -> Option<Arc<Forms>> {
        let secrets = self.opened.iter().filter_map(|(place, opened)| {
            let one = self.credentials.all.get(*place)?;
            // A key is used here, and no server is told it.
            let is_told = !matches!(one.template, Some(Template::Certificate { .. }));
            is_told.then(|| opened.needles(one.placeholder))?
        });
        let forms = Forms::shared(secrets.collect());
        (!forms.is_empty()).then(|| Arc::new(forms))
    }

    /// What a server is shown in place of a password that is a placeholder; none if that goes as it is. Where else it
    /// may be put, does not matter: a login has neither headers nor a body.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn password(&self, shown: &str) -> Result<Option<&Secret>, Denied> {
        match Placeholder::parse(shown) {
            Some(placeholder) => {
                let secret = self.secret(placeholder, |_| true)?;
                Ok(secret.map(|secret| &**secret))
            }
            None => Ok(None),
        }
    }

    /// Asks the server for an answer that can be read here, and for all of it.
    pub(crate) fn ask_readable(headers: &mut HeaderMap) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(EXTENSIONS);
        for name in PIECES {
            headers.remove(name);
        }
    }

    /// Notes what was found in a request's body.
    pub(super) fn note(&self, found: &[Placeholder]) {
        for placeholder in found {
            let is_put_in = matches!(self.secret_of(*placeholder, |one| one.body), Ok(Some(_)));
            self.note_one(*placeholder, is_put_in);
        }
    }

    fn note_one(&self, placeholder: Placeholder, is_put_in: bool) {
        let Some(one) = self.credential(placeholder) else {
            return;
        };
        let mut spent = self.spent();
        let list = if is_put_in {
            &mut spent.put_in
        } else {
            &mut spent.left
        };
        if !list.contains(&one.id) {
            list.push(one.id);
        }
    }

    /// The placeholders in a request's head.
    fn found(&self, headers: &HeaderMap, query: Option<&str>) -> Vec<Placeholder> {
        let watched = &self.credentials.watched;
        // They stay as they are, and need no room.
        let in_query = query.map(|query| watched.whole(query.as_bytes(), 0));
        let in_headers = headers.values();
        let in_headers = in_headers.map(|value| watched.header(value.as_bytes(), watched, 0));
        let all = in_headers.chain(in_query).filter_map(Result::ok).flatten();
        let mut found: Vec<_> = all.flat_map(|it| it.found).collect();
        found.sort_unstable_by_key(|one| *one.bytes());
        found.dedup();
        found
    }

    /// Whether that value has none of those that no header can carry.
    fn fits(&self, value: &HeaderValue, header: &Covered, raw: &Covered) -> Result<(), Denied> {
        let found = self.credentials.watched.whole(value.as_bytes(), 0);
        let mut found = found.ok().flatten().into_iter().flat_map(|it| it.found);
        if found.any(|one| raw.has(one) && !header.has(one)) {
            return Err(unfit());
        }
        Ok(())
    }

    /// What takes the place of that one, noted; none if it goes out as it is.
    fn secret(
        &self,
        placeholder: Placeholder,
        may: impl Fn(&Credential) -> bool,
    ) -> Result<Option<&Arc<Secret>>, Denied> {
        let secret = self.secret_of(placeholder, may)?;
        self.note_one(placeholder, secret.is_some());
        Ok(secret)
    }

    fn secret_of(
        &self,
        placeholder: Placeholder,
        may: impl Fn(&Credential) -> bool,
    ) -> Result<Option<&Arc<Secret>>, Denied> {
        let opened = self.opened.iter().find_map(|(place, opened)| {
            let one = self.credentials.all.get(*place)?;
            // Nobody asks for one that goes by a template.
            let is_asked = one.template.is_none() && one.placeholder == placeholder;
            (is_asked && may(one)).then_some((one, opened))
        });
        match opened {
            Some((one, opened)) => self.may_go(one, opened).map(Some),
            None => Ok(None),
        }
    }

    /// The secret of a credential that is to go out.
    fn may_go<'a>(&self, one: &Credential, opened: &'a Opened) -> Result<&'a Arc<Secret>, Denied> {
        // In clear text nobody can be shown a certificate, whatever the operator allows.
        let is_certificate = matches!(one.template, Some(Template::Certificate { .. }));
        if !self.is_tls && (is_certificate || !self.credentials.cleartext) {
            return Err(Denied(format!(
                "credential {} goes over TLS only, and this connection is in clear text",
                one.id
            )));
        }
        let secret = opened.secret.as_ref();
        secret.ok_or_else(|| Denied::unopened(one.id))
    }

    fn credential(&self, placeholder: Placeholder) -> Option<&Credential> {
        let place = self.credentials.by.get(&placeholder)?;
        self.credentials.all.get(*place)
    }
}

/// How a body of that type is to be written.
fn place(headers: &HeaderMap) -> Place {
    let kind = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next();
    let kind = kind.unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/x-www-form-urlencoded" => Place::Form,
        json if json == "application/json" || json.ends_with("+json") => Place::Json,
        _ => Place::Raw,
    }
}

fn unfit() -> Denied {
    Denied(vault::placeholder::Unfit.to_string())
}
