//! The rules, one after the other, each with snippets that break it and that keep it.

use super::source::SourceFile;

/// The longest file, tests apart.
const LINES_MAX: usize = 800;

/// One rule.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) applies: fn(&SourceFile) -> bool,
    /// Lines and what stands there.
    pub(crate) violations: fn(&SourceFile) -> Vec<(usize, String)>,
    /// Path, text and the only line that is reported.
    pub(crate) broken_by: &'static [(&'static str, &'static str, usize)],
    /// Path and text.
    pub(crate) kept_by: &'static [(&'static str, &'static str)],
}

/// All of them.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "the core imports no other crate of the workspace",
        applies: |file| file.is_in("crates/core/src/") && !file.is_test(),
        violations: |file| {
            named(
                file,
                &["strongroom_adapters", "strongroom_testkit", "strongroom"],
            )
        },
        broken_by: &[
            (
                "crates/core/src/plan/a.rs",
                "\nuse strongroom_adapters::source;\n",
                2,
            ),
            (
                "crates/core/src/plan/a.rs",
                "fn f() {\n    strongroom::command::run();\n}\n",
                2,
            ),
        ],
        kept_by: &[(
            "crates/core/src/plan/a.rs",
            "// strongroom_adapters::x\n#[cfg(test)]\nmod tests {\n    use strongroom_testkit::Fault;\n}\n",
        )],
    },
    Rule {
        name: "the format is pure: bytes in, bytes out",
        applies: |file| file.is_in("crates/core/src/format/") && !file.is_test(),
        violations: |file| {
            let mut found = named(
                file,
                &[
                    "std::fs",
                    "std::net",
                    "std::env",
                    "std::process",
                    "std::time::SystemTime",
                    "crate::storage",
                    "crate::repository",
                    "crate::execute",
                    "crate::plan",
                    "crate::source",
                ],
            );
            found.retain(|(_, name)| !is_below(name, "crate::source::Class"));
            found
        },
        broken_by: &[
            (
                "crates/core/src/format/a.rs",
                "use std::{\n    io,\n    fs::{self, File},\n};\n",
                3,
            ),
            (
                "crates/core/src/format/a.rs",
                "use super::super::storage::Storage;\n",
                1,
            ),
            (
                "crates/core/src/format/mod.rs",
                "use super::plan::Plan;\n",
                1,
            ),
            (
                "crates/core/src/format/a.rs",
                "use crate::source::{Class, Sink};\n",
                1,
            ),
            (
                "crates/core/src/format/a.rs",
                "\n\nfn f() {\n    std::time::SystemTime::now();\n}\n",
                4,
            ),
        ],
        kept_by: &[
            (
                "crates/core/src/format/a.rs",
                "use std::io;\nuse crate::source::Class;\nuse super::storage;\nconst A: &str = \"std::fs::x\";\n",
            ),
            ("crates/core/src/format/tests.rs", "use std::fs;\n"),
        ],
    },
    Rule {
        name: "custody is pure: shares in, an identity out",
        applies: |file| file.is_in("crates/core/src/custody/") && !file.is_test(),
        violations: |file| {
            named(
                file,
                &[
                    "std::fs",
                    "std::net",
                    "std::process",
                    "crate::storage",
                    "crate::repository",
                    "crate::execute",
                    "crate::plan",
                    "crate::source",
                ],
            )
        },
        broken_by: &[
            ("crates/core/src/custody/a.rs", "use std::fs::File;\n", 1),
            (
                "crates/core/src/custody/mod.rs",
                "\nuse super::repository::Repository;\n",
                2,
            ),
        ],
        kept_by: &[(
            "crates/core/src/custody/a.rs",
            "use std::fmt;\nuse crate::format::SetId;\n",
        )],
    },
    Rule {
        name: "a plan is computed, never looked up",
        applies: |file| file.is_in("crates/core/src/plan/") && !file.is_test(),
        violations: |file| {
            named(
                file,
                &["std::fs", "std::process", "std::net", "crate::storage"],
            )
        },
        broken_by: &[
            (
                "crates/core/src/plan/a.rs",
                "use std::process::Command;\n",
                1,
            ),
            (
                "crates/core/src/plan/mod.rs",
                "\nuse super::storage::Storage as S;\n",
                2,
            ),
        ],
        kept_by: &[(
            "crates/core/src/plan/a.rs",
            "use std::path::Path;\nuse crate::format;\n",
        )],
    },
    Rule {
        name: "the core prints nothing and reads no environment",
        applies: |file| file.is_in("crates/core/src/") && !file.is_test(),
        violations: |file| {
            named(
                file,
                &[
                    "println!",
                    "eprintln!",
                    "print!",
                    "eprint!",
                    "dbg!",
                    "std::println!",
                    "std::eprintln!",
                    "std::env",
                    "std::io::stdin",
                    "std::io::stdout",
                    "std::io::stderr",
                    "io::stdin",
                    "io::stdout",
                    "io::stderr",
                ],
            )
        },
        broken_by: &[
            (
                "crates/core/src/a.rs",
                "fn f<'a>(c: char) {\n    if c == '\"' {\n        println!(\"x\");\n    }\n}\n",
                3,
            ),
            ("crates/core/src/a.rs", "use std::{env};\n", 1),
            (
                "crates/core/src/a.rs",
                "/* a /* b */ c */ fn f() { io::stderr(); }\n",
                1,
            ),
        ],
        kept_by: &[(
            "crates/core/src/a.rs",
            "/// println!(\"\")\nfn f() { writeln!(w, r#\"println!(\"x\")\"#); print != 3; env!(\"X\"); }\n",
        )],
    },
    Rule {
        name: "adapters import the core only",
        applies: |file| file.is_in("crates/adapters/src/") && !file.is_test(),
        violations: |file| named(file, &["strongroom", "strongroom_testkit"]),
        broken_by: &[(
            "crates/adapters/src/source/a.rs",
            "use strongroom_testkit::Fault;\n",
            1,
        )],
        kept_by: &[(
            "crates/adapters/src/source/a.rs",
            "use strongroom_core::source::Source;\n",
        )],
    },
    Rule {
        name: "each file says at its beginning what it is",
        applies: |_| true,
        violations: |file| {
            let first = file.text.lines().find(|line| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with("#![")
            });
            match first {
                Some(line) if line.starts_with("//!") => Vec::new(),
                _ => vec![(1, "no //! at the beginning".into())],
            }
        },
        broken_by: &[
            ("crates/core/src/a.rs", "// A comment.\n//! Late.\n", 1),
            ("crates/core/src/a.rs", "", 1),
        ],
        kept_by: &[(
            "crates/core/src/a.rs",
            "#![forbid(unsafe_code)]\n\n//! What it owns.\n",
        )],
    },
    Rule {
        name: "no file is longer than 800 lines, tests apart",
        applies: |file| !file.is_test(),
        violations: |file| {
            let lines = file.text.lines().count() - file.test_lines;
            if lines > LINES_MAX {
                vec![(LINES_MAX + 1, format!("{lines} lines"))]
            } else {
                Vec::new()
            }
        },
        broken_by: &[("crates/core/src/a.rs", LONG, 801)],
        kept_by: &[("crates/core/tests/it/a.rs", LONG)],
    },
    Rule {
        name: "what a lint is not to say has a reason",
        applies: |_| true,
        violations: |file| {
            let mut found = Vec::new();
            for start in ["allow(", "expect("] {
                for mark in [format!("#[{start}"), format!("#![{start}")] {
                    found.extend(without_reason(&file.code, &mark));
                }
            }
            found
        },
        broken_by: &[
            (
                "crates/core/src/a.rs",
                "\n#[allow(dead_code)]\nfn f() {}\n",
                2,
            ),
            (
                "crates/core/src/a.rs",
                "#![expect(\n    dead_code,\n)]\n",
                1,
            ),
        ],
        kept_by: &[(
            "crates/core/src/a.rs",
            "#[allow(dead_code, reason = \")\")]\nfn f() { x.expect(\"y\"); }\n",
        )],
    },
];

/// 801 lines of code.
const LONG: &str = match std::str::from_utf8(&[b'\n'; LINES_MAX + 1]) {
    Ok(text) => text,
    Err(_) => "",
};

/// The workspace's crates under `[dependencies]` of a manifest.
pub(crate) fn workspace_dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && line.starts_with("strongroom") {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            found.push(line[..end].to_owned());
        }
    }
    found
}

/// The folders that the slice `SOURCES` does not list.
pub(crate) fn unregistered(folders: &[String], registration: &str) -> Vec<String> {
    let slice = registration
        .split_once("const SOURCES")
        .and_then(|(_, rest)| rest.split_once("];"))
        .map_or("", |(slice, _)| slice);
    let listed = |folder: &&String| !slice.contains(&format!("\"{folder}\""));
    folders.iter().filter(listed).cloned().collect()
}

fn named(file: &SourceFile, forbidden: &[&str]) -> Vec<(usize, String)> {
    let is_forbidden = |name: &str| forbidden.iter().any(|one| is_below(name, one));
    let names = file.names.iter();
    names
        .filter(|(_, name)| is_forbidden(name))
        .cloned()
        .collect()
}

/// `std::fs::File` is below `std::fs`, `std::fsync` is not.
fn is_below(name: &str, path: &str) -> bool {
    let rest = name.strip_prefix(path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn without_reason(code: &str, mark: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(mark) {
        let attribute = code[at..].split(']').next().unwrap_or_default();
        if !attribute.contains("reason") {
            let line = code[..at].matches('\n').count() + 1;
            found.push((line, format!("{mark}...) without a reason")));
        }
    }
    found
}
