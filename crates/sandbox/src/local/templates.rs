//! Owns which template each sandbox of this host lies on, and that none goes while one does. It makes none.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jail::image::{IMAGE, LAYOUT};

use super::template::Base;
use super::{Local, Shared, blocking};
use crate::error::{Doing, Error};
use crate::limits::TEMPLATE_USERS_NAMED;
use crate::provider::SandboxId;
use crate::template::{Template, TemplateHome, TemplateId, TemplateRef, Templates, of_the_host};

impl Shared {
    /// What the workspace in `dir` lies on. One that is there keeps what it has; one that is about to be made is laid on
    /// `wanted`, or on what the operator set. Its lock is held. Blocks.
    pub(super) fn base_for(
        &self,
        dir: &Path,
        wanted: Option<&TemplateRef>,
    ) -> Result<Arc<Base>, Error> {
        let is_made = dir.join(LAYOUT[0]).exists() || dir.join(IMAGE).exists();
        let doing = || format!("find what {} lies on", dir.display());
        if let Some(template) = self.layers.template_of(dir).doing(doing)? {
            return self.templates.base(template.as_ref());
        }
        let wanted = wanted.unwrap_or(&self.template);
        if is_made || *wanted == TemplateRef::Host {
            return self.templates.base(None);
        }
        let Some(id) = self.templates.home().find(wanted)? else {
            return self.templates.base(None);
        };
        let has = |id: &TemplateId| self.templates.has(id);
        self.layers.lay_new_on(dir, id.clone(), has).doing(doing)?;
        self.templates.base(Some(&id))
    }

    /// What the workspace in `dir`, which is there, lies on. Blocks.
    pub(super) fn base_of(&self, dir: &Path) -> Result<Arc<Base>, Error> {
        let doing = || format!("find what {} lies on", dir.display());
        let template = self.layers.template_of(dir).doing(doing)?;
        self.templates.base(template.flatten().as_ref())
    }

    fn remove_template(&self, which: &TemplateRef) -> Result<Template, Error> {
        let home = self.templates.home();
        let id = home.find(which)?.ok_or_else(of_the_host)?;
        let doing = || format!("remove the template {which}");
        let removed = self
            .layers
            .while_unused(|users| self.removed(home, &id, users));
        removed.doing(doing)?.unwrap_or_else(|| {
            Err(Error::busy(
                "workspaces are being made, exported or imported all the time, so that nobody knows who uses it: try again",
            ))
        })
    }

    fn removed(
        &self,
        home: &TemplateHome,
        id: &TemplateId,
        users: &BTreeMap<TemplateId, Vec<String>>,
    ) -> Result<Template, Error> {
        if let Some(users) = users.get(id) {
            return Err(Error::busy(in_use(users)));
        }
        let template = home.read(id)?.ok_or_else(|| Error::Missing {
            problem: format!("the template {id} has just gone"),
        })?;
        home.remove(id, |path| self.trash.take(path))?;
        self.templates.forget(id);
        Ok(template)
    }
}

/// Who has to go first.
fn in_use(users: &[String]) -> String {
    let named: Vec<&str> = users
        .iter()
        .take(TEMPLATE_USERS_NAMED)
        .map(String::as_str)
        .collect();
    let more = match users.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "it is used by {}{more}: remove those first",
        named.join(", ")
    )
}

#[async_trait]
impl Templates for Local {
    async fn templates(&self) -> Result<Vec<Template>, Error> {
        let shared = Arc::clone(&self.0);
        let list = move || shared.templates.home().list();
        blocking(|| "list the templates".to_owned(), list).await?
    }

    async fn remove_template(&self, which: &TemplateRef) -> Result<Template, Error> {
        let (shared, removed) = (Arc::clone(&self.0), which.clone());
        let remove = move || shared.remove_template(&removed);
        blocking(|| format!("remove the template {which}"), remove).await?
    }

    async fn template_of(&self, id: &SandboxId) -> Result<Option<TemplateId>, Error> {
        let (shared, dir) = (Arc::clone(&self.0), self.0.dirs.path(id));
        let doing = || format!("find what sandbox {id} lies on");
        let found = blocking(doing, move || shared.layers.template_of(&dir)).await?;
        found.doing(doing).map(Option::flatten)
    }
}
