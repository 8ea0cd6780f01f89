//! A stub before a server: the next connections fail as told, then all pass.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a request fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is answered with this status.
    Status(u16),
    /// The connection is cut while it is sent.
    Cut,
    /// It is carried out, and the connection is cut before the answer.
    CutAnswer,
    /// It is carried out, and the connection is cut within the answer.
    Truncated,
}

/// The stub; a thread that ends with the process.
pub(crate) struct Stub {
    address: String,
    path: String,
    script: Arc<Mutex<VecDeque<Fault>>>,
}

impl Stub {
    /// Starts one before the server of a URL.
    pub(crate) fn start(url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("a plain URL");
        let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let script = Arc::new(Mutex::new(VecDeque::new()));
        let (server, shared) = (server.to_owned(), Arc::clone(&script));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, script) = (server.clone(), Arc::clone(&shared));
                std::thread::spawn(move || serve(client, &server, &script));
            }
        });
        Self {
            address,
            path: path.to_owned(),
            script,
        }
    }

    /// Its own URL, with the path of the server's.
    pub(crate) fn url(&self) -> String {
        let url = format!("http://{}/{}", self.address, self.path);
        url.trim_end_matches('/').to_owned()
    }

    /// The next requests fail like this.
    pub(crate) fn next(&self, faults: &[Fault]) {
        self.done();
        self.lock().extend(faults);
    }

    /// All faults were seen.
    pub(crate) fn done(&self) {
        let left = self.lock();
        assert!(left.is_empty(), "no request met {left:?}");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Fault>> {
        self.script.lock().expect("no panic under the lock")
    }
}

/// Answers one request: each has a connection of its own, because every answer says so.
fn serve(mut client: TcpStream, server: &str, script: &Mutex<VecDeque<Fault>>) {
    let Some((head, rest)) = read_head(&mut client) else {
        return;
    };
    let fault = script.lock().expect("no panic under the lock").pop_front();
    match fault {
        Some(Fault::Status(status)) => {
            drain(&mut client, &head, rest);
            let answer = format!(
                "HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = client.write_all(answer.as_bytes());
        }
        Some(Fault::Cut) => {}
        Some(fault) => {
            let body = drain(&mut client, &head, rest);
            let answer = ask(server, &head, &body);
            if matches!(fault, Fault::Truncated) {
                let _ = client.write_all(&answer[..answer.len() - answer.len().min(1)]);
            }
        }
        None => {
            let body = drain(&mut client, &head, rest);
            let _ = client.write_all(&ask(server, &head, &body));
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// What the server answers, all of it.
fn ask(server: &str, head: &str, body: &[u8]) -> Vec<u8> {
    let mut upstream = TcpStream::connect(server).expect("the server answers");
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let _ = upstream.write_all(head.as_bytes());
    let _ = upstream.write_all(body);
    let mut answer = Vec::new();
    let _ = upstream.set_read_timeout(Some(Duration::from_secs(30)));
    let _ = upstream.read_to_end(&mut answer);
    answer
}

fn read_head(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut block = [0; 4096];
    loop {
        let read = client.read(&mut block).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&block[..read]);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).expect("a head in ASCII"), rest));
        }
    }
}

fn drain(client: &mut TcpStream, head: &str, mut body: Vec<u8>) -> Vec<u8> {
    let lower = head.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().expect("a length"));
    let mut block = vec![0; 1 << 16];
    while body.len() < length {
        match client.read(&mut block) {
            Ok(read @ 1..) => body.extend_from_slice(&block[..read]),
            _ => break,
        }
    }
    body
}
