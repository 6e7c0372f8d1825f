//! Where things are: the checkout, and the cache beside it.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// The checkout that this program works on.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    cache: PathBuf,
}

impl Workspace {
    pub fn find() -> Result<Self, Failure> {
        // Cargo tells where the package is when it runs it; the path known when it was compiled is second best, as
        // checkouts that share a target directory overwrite each other's program.
        let own = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&own).parent().unwrap_or(Path::new(".")).to_owned();
        if !root.join("Cargo.lock").is_file() {
            return Err(Failure::new(format!("{} is not a checkout of cpc-net", root.display()))
                .remedy("run `cargo xtask` inside of the checkout"));
        }
        let cache = cache_directory(env::consts::OS, |name| env::var_os(name)).ok_or_else(|| {
            Failure::new("there is no home directory to keep a cache in").remedy("set XDG_CACHE_HOME to a folder")
        })?;
        Ok(Self { root, cache })
    }

    /// The checkout.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the checkout.
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Tools and the demo's data, outside of the checkout, so that every checkout shares them.
    pub fn cache(&self) -> &Path {
        &self.cache
    }
}

fn cache_directory(system: &str, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| match system {
        "windows" => absolute("LOCALAPPDATA"),
        "macos" => absolute("HOME").map(|home| home.join("Library/Caches")),
        _ => absolute("HOME").map(|home| home.join(".cache")),
    })?;
    Some(base.join("cpc-net"))
}

/// The first program of these names on `PATH`.
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let directories: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    names.iter().find_map(|name| {
        let file = format!("{name}{}", env::consts::EXE_SUFFIX);
        directories.iter().map(|directory| directory.join(&file)).find(|path| path.is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn each_system_keeps_its_cache_where_it_is_used_to() {
        let cache = |system: &str, set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().map(|(name, value)| (name.to_string(), OsString::from(value))).collect();
            cache_directory(system, |wanted| {
                set.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
            })
        };
        assert_eq!(cache("linux", &[("HOME", "/home/a")]), Some("/home/a/.cache/cpc-net".into()));
        assert_eq!(cache("macos", &[("HOME", "/Users/a")]), Some("/Users/a/Library/Caches/cpc-net".into()));
        assert_eq!(cache("linux", &[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")]), Some("/c/cpc-net".into()));
        assert_eq!(
            cache("linux", &[("HOME", "/home/a"), ("XDG_CACHE_HOME", "c")]),
            Some("/home/a/.cache/cpc-net".into())
        );
        assert_eq!(cache("linux", &[]), None);
    }
}
