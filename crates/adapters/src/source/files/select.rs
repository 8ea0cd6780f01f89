//! What the settings select: patterns become roots, excludes become a set.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use rustix::fs::{Access, AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::findings::{Findings, Quoted};

/// How deep `**` and symbolic links in patterns may lead.
const DEPTH_MAX: usize = 100;

/// The roots of an asset and what is left out below them.
#[derive(Debug)]
pub(super) struct Selection {
    /// Sorted by component, without duplicates.
    pub(super) roots: Vec<Root>,
    exclude: GlobSet,
}

/// A path that the settings name or match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    /// Named as it is, without a glob: it must exist.
    pub(super) is_literal: bool,
}

impl Selection {
    /// Expands the patterns; a bad one, and one that selects nothing, is a problem.
    pub(super) fn new(paths: &[String], exclude: &[String], findings: &mut Findings) -> Self {
        let mut selection = Self {
            roots: Vec::new(),
            exclude: exclude_set(exclude, findings),
        };
        for pattern in paths {
            match expand(pattern, findings) {
                Ok((found, is_literal)) => selection.add(pattern, found, is_literal, findings),
                Err(why) => findings.problem(format!("the path {pattern:?} {why}")),
            }
        }
        // Where a path is both named and matched, the named one comes first and stays.
        selection.roots.sort_by(|left, right| {
            let paths = left.path.cmp(&right.path);
            paths.then(right.is_literal.cmp(&left.is_literal))
        });
        selection
            .roots
            .dedup_by(|later, earlier| later.path == earlier.path);
        selection
    }

    /// Selects these paths and nothing else.
    pub(super) fn exactly(paths: Vec<PathBuf>) -> Self {
        let mut roots: Vec<Root> = paths
            .into_iter()
            .map(|path| Root {
                path,
                is_literal: true,
            })
            .collect();
        roots.sort_by(|left, right| left.path.cmp(&right.path));
        roots.dedup();
        Self {
            roots,
            exclude: GlobSet::empty(),
        }
    }

    fn add(
        &mut self,
        pattern: &str,
        found: Vec<PathBuf>,
        is_literal: bool,
        findings: &mut Findings,
    ) {
        let before = self.roots.len();
        let found_any = !found.is_empty();
        for path in found {
            if !self.is_excluded(&path) {
                self.roots.push(Root { path, is_literal });
            }
        }
        if self.roots.len() == before {
            let why = if found_any {
                "selects only what is excluded"
            } else {
                "matches nothing"
            };
            findings.problem(format!("the path {pattern:?} {why}"));
        }
    }

    /// Whether this very path is excluded.
    pub(super) fn is_excluded(&self, path: &Path) -> bool {
        self.exclude.is_match(path)
    }

    /// Whether a walk that starts at `root` comes to `path`, as far as the names tell.
    pub(super) fn reaches(&self, root: &Path, path: &Path) -> bool {
        path.starts_with(root)
            && path
                .ancestors()
                .take_while(|part| *part != root)
                .all(|part| !self.is_excluded(part))
    }

    /// Whether a path is a root or lies below one.
    pub(super) fn covers(&self, path: &Path) -> bool {
        // From the path upwards: an excluded directory hides the path from all roots above it.
        for part in path.ancestors() {
            if self.is_root(part) {
                return true;
            }
            if self.is_excluded(part) {
                return false;
            }
        }
        false
    }

    /// Whether a path is a root itself.
    pub(super) fn is_root(&self, path: &Path) -> bool {
        let order = |root: &Root| root.path.as_path().cmp(path);
        self.roots.binary_search_by(order).is_ok()
    }
}

/// Whether patterns would select a path, or something above it, going by names alone: it need not exist.
pub(super) fn covers_by_name(paths: &[String], exclude: &[String], path: &Path) -> bool {
    let exclude = exclude_set(exclude, &mut Findings::default());
    let selects = |pattern: &String, part: &Path| {
        Path::new(pattern) == part
            || glob(pattern.trim_end_matches('/'))
                .is_ok_and(|glob| glob.compile_matcher().is_match(part))
    };
    path.ancestors()
        .take_while(|part| !exclude.is_match(part))
        .any(|part| paths.iter().any(|pattern| selects(pattern, part)))
}

fn exclude_set(patterns: &[String], findings: &mut Findings) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let rooted = if pattern.starts_with('/') {
            pattern.trim_end_matches('/').to_owned()
        } else {
            format!("**/{}", pattern.trim_end_matches('/'))
        };
        match glob(&rooted) {
            Ok(glob) => {
                set.add(glob);
            }
            Err(why) => findings.problem(format!("the exclude pattern {pattern:?} {why}")),
        }
    }
    set.build().unwrap_or_else(|error| {
        findings.problem(format!(
            "the exclude patterns together are too large: {error}"
        ));
        GlobSet::empty()
    })
}

fn glob(pattern: &str) -> Result<Glob, String> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| format!("is no pattern: {}", error.kind()))
}

/// One component of a pattern.
enum Part {
    Name(OsString),
    Glob(GlobMatcher),
    /// `**`: any number of directories, none too.
    Directories,
}

/// What a pattern matches, and whether it is a plain path. Only what exists matches a glob;
/// a plain path is passed on as it is.
fn expand(pattern: &str, findings: &mut Findings) -> Result<(Vec<PathBuf>, bool), String> {
    if !pattern.starts_with('/') {
        return Err("is not absolute".to_owned());
    }
    if pattern.contains('\0') {
        return Err("contains a NUL".to_owned());
    }
    let mut parts = Vec::new();
    for text in pattern.split('/').filter(|text| !text.is_empty()) {
        parts.push(match text {
            "." | ".." => return Err("must not contain \".\" or \"..\"".to_owned()),
            "**" => Part::Directories,
            _ if text.contains(['*', '?', '[', '{', '\\']) => {
                Part::Glob(glob(text)?.compile_matcher())
            }
            _ => Part::Name(text.into()),
        });
    }
    let is_literal = parts.iter().all(|part| matches!(part, Part::Name(_)));
    let mut found = Vec::new();
    if is_literal {
        let names = parts.iter().map(|part| match part {
            Part::Name(name) => name.as_os_str(),
            Part::Glob(_) | Part::Directories => OsStr::new(""),
        });
        found.push(Path::new("/").join(names.collect::<PathBuf>()));
    } else {
        descend(PathBuf::from("/"), &parts, 0, &mut found, findings);
    }
    Ok((found, is_literal))
}

fn descend(
    path: PathBuf,
    parts: &[Part],
    depth: usize,
    found: &mut Vec<PathBuf>,
    findings: &mut Findings,
) {
    let Some((first, rest)) = parts.split_first() else {
        found.push(path);
        return;
    };
    if depth > DEPTH_MAX {
        findings.problem(format!("{}: too deep for a pattern", Quoted(&path)));
        return;
    }
    match first {
        Part::Name(name) => {
            let path = path.join(name);
            if path.symlink_metadata().is_ok() {
                descend(path, rest, depth + 1, found, findings);
            }
        }
        Part::Glob(glob) => {
            for name in names_or_problem(&path, findings) {
                if glob.is_match(Path::new(&name)) {
                    descend(path.join(&name), rest, depth + 1, found, findings);
                }
            }
        }
        Part::Directories => {
            descend(path.clone(), rest, depth + 1, found, findings);
            for name in names_or_problem(&path, findings) {
                let below = path.join(&name);
                // Links are not followed here: they may lead in a circle.
                if below
                    .symlink_metadata()
                    .is_ok_and(|metadata| metadata.is_dir())
                {
                    descend(below, parts, depth + 1, found, findings);
                }
            }
        }
    }
}

fn names_or_problem(path: &Path, findings: &mut Findings) -> Vec<OsString> {
    // A pattern goes through links to directories, as in a shell.
    if !path.is_dir() {
        return Vec::new();
    }
    sorted_names(path, true).unwrap_or_else(|error| {
        findings.problem(format!("{}: cannot be listed: {error}", Quoted(path)));
        Vec::new()
    })
}

/// The names in a directory, sorted by their bytes, without touching its access time where that is allowed.
pub(super) fn sorted_names(path: &Path, follow: bool) -> io::Result<Vec<OsString>> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    let open = |flags| rustix::fs::open(path, flags, Mode::empty());
    let directory = match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags)?,
        other => other?,
    };
    let mut names = Vec::new();
    for entry in Dir::new(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether this process may read a path, which is not followed when it is a link.
pub(super) fn check_readable(path: &Path, access: Access) -> io::Result<()> {
    let flags = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::accessat(CWD, path, access, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(paths: &[String], exclude: &[&str]) -> (Vec<PathBuf>, Vec<String>) {
        let mut findings = Findings::default();
        let exclude: Vec<String> = exclude.iter().map(ToString::to_string).collect();
        let selection = Selection::new(paths, &exclude, &mut findings);
        let roots = selection.roots.into_iter().map(|root| root.path).collect();
        (roots, findings.into_parts().0)
    }

    #[test]
    fn patterns_become_sorted_roots() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let base = dir.path();
        for name in [
            "a/b/c.key",
            "a/d.key",
            "a/.hidden.key",
            "a/e.txt",
            "b.d/f.key",
        ] {
            let path = base.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
            strongroom_core::private_file::create_new(&path).expect("creates");
        }
        let check = |patterns: &[&str], exclude: &[&str], wanted: &[&str]| {
            let patterns: Vec<String> = patterns
                .iter()
                .map(|pattern| format!("{}/{pattern}", base.display()))
                .collect();
            let wanted: Vec<PathBuf> = wanted.iter().map(|name| base.join(name)).collect();
            let (roots, problems) = select(&patterns, exclude);
            assert_eq!(roots, wanted, "{patterns:?}");
            problems.len()
        };
        let all = ["a/.hidden.key", "a/b/c.key", "a/d.key", "b.d/f.key"];
        assert_eq!(check(&["a/*.key"], &[], &["a/.hidden.key", "a/d.key"]), 0);
        assert_eq!(check(&["**/*.key"], &[], &all), 0);
        assert_eq!(
            check(&["*/*.key", "a/d.key"], &[".*"], &["a/d.key", "b.d/f.key"]),
            0
        );
        assert_eq!(check(&["a/{d,e}.*"], &["*.txt"], &["a/d.key"]), 0);
        assert_eq!(check(&["a/e.txt/"], &[], &["a/e.txt"]), 0);
        // Not there, but named: the walk says so.
        assert_eq!(check(&["x"], &[], &["x"]), 0);
        assert_eq!(check(&["a/*.pem"], &[], &[]), 1);
        assert_eq!(check(&["a/e.*"], &["*.txt"], &[]), 1);
        assert_eq!(check(&["a/[", "../x", "./x"], &["{"], &[]), 4);
    }

    #[test]
    fn relative_paths_are_refused() {
        let (roots, problems) = select(&["etc/ca".to_owned()], &[]);
        assert_eq!((roots.len(), problems.len()), (0, 1));
    }

    #[test]
    fn excludes_prune_what_lies_below() {
        let exclude = ["/ca/tmp".to_owned(), "cache".to_owned(), "old/*".to_owned()];
        let mut findings = Findings::default();
        let mut selection = Selection::new(&[], &exclude, &mut findings);
        selection.roots.push(Root {
            path: "/ca".into(),
            is_literal: true,
        });
        for (path, covered) in [
            ("/ca", true),
            ("/ca/key", true),
            ("/ca/tmp/key", false),
            ("/ca/x/tmp", true),
            ("/ca/x/cache/y", false),
            ("/ca/x/old", true),
            ("/ca/x/old/y/z", false),
            ("/cab", false),
        ] {
            assert_eq!(selection.covers(Path::new(path)), covered, "{path}");
        }
    }
}
