//! What the keeper says of templates. It knows none itself: a [`Templates`] does.

use super::Keeper;
use crate::error::Error;
use crate::provider::SandboxId;
use crate::template::{Template, TemplateId, TemplateRef, Templates};

impl Keeper {
    fn known(&self) -> Result<&dyn Templates, Error> {
        let templates = self.0.provider.templates();
        templates.ok_or_else(|| Error::lacking("lie on templates"))
    }

    /// As [`Templates::templates`].
    ///
    /// # Errors
    /// As there.
    pub async fn templates(&self) -> Result<Vec<Template>, Error> {
        self.known()?.templates().await
    }

    /// The template that somebody means; none for the host's.
    ///
    /// # Errors
    /// [`Error::Missing`]; those of [`Templates::templates`].
    pub async fn template(&self, which: &TemplateRef) -> Result<Option<Template>, Error> {
        let is = |one: &Template| match which {
            TemplateRef::Host => false,
            TemplateRef::Id(id) => one.id == *id,
            TemplateRef::Name(name) => one.names.iter().any(|one| one == name.as_str()),
        };
        if *which == TemplateRef::Host {
            return Ok(None);
        }
        let found = self.templates().await?.into_iter().find(is);
        found.map(Some).ok_or_else(|| Error::Missing {
            problem: format!("there is no template {which} here"),
        })
    }

    /// As [`Templates::remove_template`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove_template(&self, which: &TemplateRef) -> Result<Template, Error> {
        self.known()?.remove_template(which).await
    }

    /// As [`Templates::template_of`]; none where there are no templates.
    ///
    /// # Errors
    /// As there.
    pub async fn template_of(&self, id: &SandboxId) -> Result<Option<TemplateId>, Error> {
        match self.0.provider.templates() {
            Some(templates) => templates.template_of(id).await,
            None => Ok(None),
        }
    }
}
