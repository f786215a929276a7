//! Owns which workspaces lie on which template. It knows nothing of a template but its name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use super::hold::Hold;
use super::layers::Layers;
use super::manifest::Manifest;
use super::stack::{NEXT, STACK, Stack};
use crate::limits::{TEMPLATE_PATIENCE, TEMPLATE_RETRY};
use crate::template::TemplateId;

impl Layers {
    /// Held by all that make a workspace.
    pub(super) fn lock(&self) -> PathBuf {
        self.home.join("lock")
    }

    /// What the workspace in `dir` was made on: none if nothing says so, and none within for the host's.
    pub(crate) fn template_of(&self, dir: &Path) -> io::Result<Option<Option<TemplateId>>> {
        Ok(Stack::at(dir, STACK)?.map(|stack| stack.template))
    }

    /// Has the workspace that is about to be made in `dir` lie on a template. From then on the template stays; `is_there`
    /// says whether it still is. The lock of the sandbox is held.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it has gone.
    pub(crate) fn lay_new_on(
        &self,
        dir: &Path,
        template: TemplateId,
        is_there: impl Fn(&TemplateId) -> bool,
    ) -> io::Result<()> {
        let _hold = self.hold()?;
        if !is_there(&template) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Stack::on(Some(template)).put(dir, STACK)
    }

    /// Has `remove` remove templates while nobody can begin to use one. It is given who uses which: sandboxes and
    /// snapshots by name. None if somebody makes a workspace all the time that this waits, so that nobody knows.
    pub(crate) fn while_unused<T>(
        &self,
        remove: impl FnOnce(&BTreeMap<TemplateId, Vec<String>>) -> T,
    ) -> io::Result<Option<T>> {
        let deadline = Instant::now() + TEMPLATE_PATIENCE;
        loop {
            if let Some(_alone) = Hold::alone(&self.lock())? {
                return Ok(Some(remove(&self.users()?)));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            thread::sleep(TEMPLATE_RETRY);
        }
    }

    /// Who uses which template, for people: it may be otherwise at once.
    pub(crate) fn users(&self) -> io::Result<BTreeMap<TemplateId, Vec<String>>> {
        let mut users: BTreeMap<TemplateId, Vec<String>> = BTreeMap::new();
        for manifest in Manifest::all(&self.manifests())? {
            if let Some(template) = manifest.stack.template {
                let name = format!("snapshot {}", manifest.snapshot.id);
                users.entry(template).or_default().push(name);
            }
        }
        for entry in fs::read_dir(&self.sandboxes)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // No sandbox: a file of the provider's, or what a process that was killed had begun.
            if !entry.file_type()?.is_dir() || name.starts_with('.') {
                continue;
            }
            let stack = match Stack::at(&entry.path(), STACK)? {
                None => Stack::at(&entry.path(), NEXT)?,
                some => some,
            };
            if let Some(template) = stack.and_then(|stack| stack.template) {
                let users = users.entry(template).or_default();
                users.push(format!("sandbox {name}"));
            }
        }
        users.values_mut().for_each(|names| names.sort());
        Ok(users)
    }
}
