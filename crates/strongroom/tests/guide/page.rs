//! Pages of the guide: their executable blocks, and their links.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_testkit::canary;

/// A page with its blocks of one language: the line that each begins at, and its text.
pub(crate) struct Page {
    name: String,
    blocks: Vec<(usize, String)>,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace")
}

impl Page {
    /// Reads a page of the guide with its `sh` blocks.
    pub(crate) fn read(name: &str) -> Self {
        Self::read_blocks(name, "sh")
    }

    /// The text of the blocks of a page that are in this language.
    pub(crate) fn blocks(name: &str, language: &str) -> Vec<String> {
        let page = Self::read_blocks(name, language);
        page.blocks.into_iter().map(|(_, block)| block).collect()
    }

    fn read_blocks(name: &str, language: &str) -> Self {
        let opening = format!("```{language}");
        let text = std::fs::read_to_string(root().join("docs/guide").join(name)).expect(name);
        let mut blocks: Vec<(usize, String)> = Vec::new();
        let mut inside = false;
        for (number, line) in text.lines().enumerate() {
            if inside && line == "```" {
                inside = false;
            } else if inside {
                let (_, block) = blocks.last_mut().expect("a block was begun");
                block.push_str(line);
                block.push('\n');
            } else if line == opening {
                inside = true;
                blocks.push((number + 2, String::new()));
            }
        }
        assert!(!inside, "{name}: a block has no end");
        assert!(!blocks.is_empty(), "{name}: no block of {language}");
        Self {
            name: name.to_owned(),
            blocks,
        }
    }

    /// Executes all blocks, one after the other in one shell, and returns what they said; panics with the output of the first
    /// that fails.
    pub(crate) fn execute(&self, command: &mut Command) -> String {
        let mut script = String::from("set -euo pipefail\nexec 2>&1\n");
        for (line, block) in &self.blocks {
            let _ = writeln!(script, "printf '\\036%s\\n' {line}\n{block}");
        }
        let output = command.arg("-c").arg(&script).output().expect("bash");
        let what = format!("docs/guide/{}", self.name);
        canary::printed(&what, &[&output.stdout, &output.stderr]);
        let text = String::from_utf8_lossy(&output.stdout);
        let reached = text.rsplit('\u{1e}').next().unwrap_or_default();
        assert!(
            output.status.success(),
            "docs/guide/{}: the block that begins at this line fails ({}):\n{reached}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
        text.into_owned()
    }
}

/// Links to files and headings that are not there, in all of the documentation.
pub(crate) fn broken_links() -> Vec<String> {
    let root = root();
    let mut pages: Vec<PathBuf> = Vec::new();
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root.join(name)));
    pages.sort();
    let mut broken = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).expect("a page");
        for target in links(&text) {
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let to = if file.is_empty() {
                page.clone()
            } else {
                page.parent().expect("a folder").join(file)
            };
            let found = if heading.is_empty() {
                to.exists()
            } else {
                std::fs::read_to_string(&to)
                    .is_ok_and(|text| anchors(&text).any(|one| one == heading))
            };
            if !found {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    broken
}

fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        inside ^= line.starts_with("```");
        if inside || line.starts_with("    ") {
            continue;
        }
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// Headings as links name them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
}
