//! docs/guide/commands.md: made of the help of every command, and compared with it.

use std::fmt::Write as _;
use std::process::Command;

use super::page::root;

/// When this variable is set, the page is written in place of being compared.
const UPDATE: &str = "STRONGROOM_UPDATE_REFERENCE";

const HEAD: &str = "\
# Commands

Made from the help of the program; a test compares the two. Exit statuses: [exit-statuses.md](exit-statuses.md).
";

/// Compares the page with the program, or writes it.
pub(crate) fn compare() {
    let page = root().join("docs/guide/commands.md");
    let fresh = reference();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&page, fresh).expect("the page can be written");
        return;
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    if written != fresh {
        let line = written
            .lines()
            .zip(fresh.lines())
            .take_while(|(one, two)| one == two)
            .count();
        let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
        panic!(
            "docs/guide/commands.md is not the help of the program; `{UPDATE}=1 cargo test -p strongroom --test guide reference` writes it.\n\
             first difference in line {}:\n  page:    {}\n  program: {}",
            line + 1,
            at(&written),
            at(&fresh)
        );
    }
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut waiting: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(command) = waiting.pop() {
        let help = help(&command);
        let name = std::iter::once("strongroom")
            .chain(command.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ");
        let _ = write!(text, "\n## {name}\n\n```text\n{}\n```\n", help.trim_end());
        for sub in subcommands(&help).into_iter().rev() {
            waiting.push(command.iter().cloned().chain([sub]).collect());
        }
    }
    text
}

fn help(command: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(command)
        .arg("--help")
        .env_clear()
        .env("COLUMNS", "100")
        .output()
        .expect("the program");
    assert!(output.status.success(), "{command:?}");
    let help = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// The names under `Commands:`, without `help`.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}
