//! The rules of ARCHITECTURE.md that a compiler does not hold: who may import whom, and how files look.
//!
//! The sources are read as text. Comments, literals and test modules are taken out first, `use` trees
//! are expanded and `super::` is resolved, so that a rule compares whole paths. Each rule is shown to
//! fail on a made-up snippet, because a rule that cannot fail holds nothing.

mod rules;
mod source;

use std::path::{Path, PathBuf};

use rules::RULES;
use source::SourceFile;

#[test]
fn the_sources_keep_the_rules() {
    let files = read_all();
    let mut broken = Vec::new();
    for file in &files {
        for rule in RULES.iter().filter(|rule| (rule.applies)(file)) {
            for (line, what) in (rule.violations)(file) {
                broken.push(format!("{}:{line}: {}: {what}", file.path, rule.name));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
    // A run that tested nothing fails.
    for rule in RULES {
        assert!(
            files.iter().any(|file| (rule.applies)(file)),
            "the rule \"{}\" applies to no file",
            rule.name
        );
    }
}

#[test]
fn each_rule_can_fail() {
    for rule in RULES {
        for (path, text, line) in rule.broken_by {
            let file = SourceFile::new(path, text);
            assert!((rule.applies)(&file), "{}: {path}", rule.name);
            let found = (rule.violations)(&file);
            let mut lines: Vec<usize> = found.iter().map(|one| one.0).collect();
            lines.dedup();
            assert_eq!(lines, [*line], "{}:\n{text}", rule.name);
        }
        assert!(!rule.broken_by.is_empty(), "{}", rule.name);
        for (path, text) in rule.kept_by {
            let file = SourceFile::new(path, text);
            let found = if (rule.applies)(&file) {
                (rule.violations)(&file)
            } else {
                Vec::new()
            };
            assert!(found.is_empty(), "{}: {found:?}\n{text}", rule.name);
        }
    }
}

#[test]
fn crates_depend_on_the_core_only() {
    for (name, allowed) in [
        ("core", &[][..]),
        ("adapters", &["strongroom-core"]),
        ("testkit", &["strongroom-core"]),
    ] {
        let path = root().join("crates").join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(&path).expect("a manifest");
        let found = rules::workspace_dependencies(&text);
        assert_eq!(found, allowed, "[dependencies] of {}", path.display());
    }
    let made_up = "[dependencies]\nstrongroom-adapters.workspace = true\n[dev-dependencies]\nstrongroom-testkit.workspace = true\n";
    assert_eq!(
        rules::workspace_dependencies(made_up),
        ["strongroom-adapters"]
    );
}

#[test]
fn every_source_is_registered() {
    let folder = root().join("crates/adapters/src/source");
    let mut folders: Vec<String> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("a plain name"))
        .collect();
    folders.sort();
    if !folders.is_empty() {
        let text = std::fs::read_to_string(folder.join("mod.rs")).expect("the registration");
        let missing = rules::unregistered(&folders, &text);
        assert!(missing.is_empty(), "not listed in SOURCES: {missing:?}");
    }
    let made_up =
        "pub const SOURCES: &[&str] = &[\n    \"files\",\n];\nconst OTHER: &str = \"sqlite\";\n";
    let folders = ["files".to_owned(), "sqlite".to_owned()];
    assert_eq!(rules::unregistered(&folders, made_up), ["sqlite"]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read_all() -> Vec<SourceFile> {
    let root = root().canonicalize().expect("the workspace");
    let mut found = Vec::new();
    let mut folders = vec![root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let name = path.strip_prefix(&root).expect("below the root");
                found.push(SourceFile::new(&name.to_string_lossy(), &text));
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}
