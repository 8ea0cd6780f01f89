//! What is typed at a terminal.

use std::process::Command;

use crate::fixture::{Host, PROGRAM, write};

/// Runs a program at a terminal of its own and types a line at each prompt; prints what the terminal shows.
const TYPIST: &str = r#"
import json, os, pty, sys
job = json.load(sys.stdin)
pid, terminal = pty.fork()
if pid == 0:
    os.execv(job["argv"][0], job["argv"])
shown, lines, prompts = b"", job["lines"], 0
try:
    while piece := os.read(terminal, 4096):
        shown += piece
        while lines and shown.count(b"Enter ") > prompts:
            prompts += 1
            os.write(terminal, lines.pop(0).encode() + b"\n")
except OSError:
    pass
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.buffer.write(shown)
sys.exit(status)
"#;

/// Types lines at the prompts of a command; its status, and what the terminal shows.
pub(crate) fn typed(host: &Host, arguments: &[&str], lines: &[String]) -> (Option<i32>, String) {
    let config = host.text("host/strongroom.toml");
    let mut argv = vec![PROGRAM, "--config", &config];
    argv.extend(arguments);
    let job = serde_json::json!({ "argv": argv, "lines": lines });
    write(&host.path("typist.json"), job.to_string());
    let stdin = std::fs::File::open(host.path("typist.json")).expect("opens");
    let typist = Command::new("python3")
        .args(["-c", TYPIST])
        .stdin(stdin)
        .output();
    let typist = typist.expect("python3 starts");
    let said = String::from_utf8_lossy(&typist.stdout).into_owned();
    (typist.status.code(), said)
}
