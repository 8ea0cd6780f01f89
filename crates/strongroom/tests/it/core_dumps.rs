//! A crash leaves nothing of what the process knew.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Host, PROGRAM, must};

/// Runs a program with core dumps as large as they may be.
fn with_dumps(program: &str, arguments: &[&str], directory: &str) -> Child {
    Command::new("sh")
        .args([
            "-c",
            "ulimit -c \"$(ulimit -H -c)\" && exec \"$0\" \"$@\"",
            program,
        ])
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh")
}

fn abort(child: &mut Child) -> ExitStatus {
    let pid = i32::try_from(child.id()).expect("fits");
    kill_process(Pid::from_raw(pid).expect("a process"), Signal::ABORT).expect("is running");
    let status = child.wait().expect("ends");
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    status
}

#[test]
fn a_crash_leaves_no_core_dump() {
    let host = Host::new();
    let directory = host.text("crash");
    std::fs::create_dir(&directory).expect("creates");
    // Any other program leaves one here.
    let mut cat = with_dumps("cat", &[], &directory);
    // It reads what it is given after the limit is set and it has been started.
    let mut input = cat.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, b"x").expect("writes");
    wait_until_executed(&cat, "cat");
    if !abort(&mut cat).core_dumped() {
        strongroom_testkit::skip("core_dumps", "the system takes no core dumps here");
    }

    // Opening a pipe waits for the other side, so the program is at work when both are open.
    let pipe = host.text("configuration");
    must("mkfifo", &[&pipe]);
    let mut child = with_dumps(PROGRAM, &["--config", &pipe, "list"], &directory);
    let _open = OpenOptions::new().write(true).open(&pipe).expect("opens");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("reads");
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let core: Vec<&str> = core.expect("is there").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{core:?}");
    assert!(!abort(&mut child).core_dumped());
}

/// Returns when the process is the program itself, and not the shell that starts it.
fn wait_until_executed(child: &Child, program: &str) {
    let file = format!("/proc/{}/comm", child.id());
    while std::fs::read_to_string(&file).is_ok_and(|name| name.trim() != program) {
        std::thread::yield_now();
    }
}

#[test]
fn what_is_printed_is_searched_at_the_end() {
    let host = Host::new();
    let marker = strongroom_testkit::canary::MARKER;
    host.run(&["show", marker]).exits(4).says(marker);
}
