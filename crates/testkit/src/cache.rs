//! Where tests keep what is large and the same in every run: outside of the build, so that a clean one finds it, and a CI
//! that keeps its user's cache fetches it once. It fetches nothing.

use std::path::PathBuf;

/// The directory of that name in the user's cache. It may not be there yet.
#[must_use]
pub fn directory(name: &str) -> PathBuf {
    let of = |name| std::env::var_os(name).filter(|path| !path.is_empty());
    let own = || of("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = of("XDG_CACHE_HOME").map(PathBuf::from).or_else(own);
    let cache = cache.unwrap_or_else(std::env::temp_dir);
    cache.join("longhand-tests").join(name)
}
