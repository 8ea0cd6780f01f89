//! Progress: a bar on terminals, JSON Lines with --json, nothing otherwise.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use strongroom_core::execute::{Event, Observer};

use super::Report;

/// How often JSON Lines tell of bytes.
const EVERY: Duration = Duration::from_millis(500);

/// Shows the events of a run.
pub(crate) struct Progress(Mutex<Kind>);

enum Kind {
    Silent,
    Bar(Option<ProgressBar>),
    Lines {
        part: String,
        done: u64,
        told: Instant,
    },
}

impl Progress {
    pub(crate) fn new(report: &Report) -> Self {
        let kind = if report.json {
            Kind::Lines {
                part: String::new(),
                done: 0,
                told: Instant::now(),
            }
        } else if !report.quiet && std::io::stderr().is_terminal() {
            Kind::Bar(None)
        } else {
            Kind::Silent
        };
        Self(Mutex::new(kind))
    }
}

impl Observer for Progress {
    fn event(&self, event: Event<'_>) {
        match &mut *self.0.lock().expect("no panic under the lock") {
            Kind::Silent => {}
            Kind::Bar(bar) => show(bar, event),
            Kind::Lines { part, done, told } => match event {
                Event::Begin {
                    name,
                    what,
                    size_bytes,
                } => {
                    name.clone_into(part);
                    *done = 0;
                    tell(&json!({
                        "event": "begin", "name": name, "what": what, "size_bytes": size_bytes,
                    }));
                }
                Event::Bytes(bytes) => {
                    *done += bytes;
                    if told.elapsed() >= EVERY {
                        *told = Instant::now();
                        tell(&json!({ "event": "progress", "name": part, "bytes": done }));
                    }
                }
                Event::End { name } => {
                    tell(&json!({ "event": "end", "name": name, "bytes": done }));
                }
                _ => {}
            },
        }
    }
}

fn tell(line: &serde_json::Value) {
    // Whoever reads progress may have gone away.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn show(bar: &mut Option<ProgressBar>, event: Event<'_>) {
    match event {
        Event::Begin {
            name,
            what,
            size_bytes,
        } => {
            let template = if size_bytes.is_some() {
                "{msg} {bar:30} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left"
            } else {
                "{msg} {decimal_bytes}, {decimal_bytes_per_sec}"
            };
            let style = ProgressStyle::with_template(template).expect("a valid template");
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let new = ProgressBar::with_draw_target(size_bytes, target)
                .with_style(style)
                .with_message(format!("{name}: {what}"));
            *bar = Some(new);
        }
        Event::Bytes(bytes) => {
            if let Some(bar) = bar {
                bar.inc(bytes);
            }
        }
        Event::End { .. } => {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        }
        _ => {}
    }
}
