//! A stub before a server that speaks HTTP: the next requests fail as told, then all pass. Each has a connection of its own.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Put, Storage, StorageError};

/// How a request fails.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is answered with this status.
    Status(u16),
    /// The connection is cut while it is sent.
    Cut,
    /// It is carried out, and the connection is cut before the answer.
    CutAnswer,
    /// It is carried out, and the connection is cut within the answer.
    Truncated,
    /// It is carried out, and its answer is remembered.
    Remembered,
    /// It gets the answer that was remembered; the server does not hear of it.
    Stale,
}

/// The stub; a thread that ends with the process.
pub struct Stub {
    address: String,
    path: String,
    script: Arc<Mutex<VecDeque<Fault>>>,
}

/// The answer that was remembered.
type Memory = Mutex<Vec<u8>>;

impl Stub {
    /// Starts one before the server of a URL.
    pub fn start(url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("a plain URL");
        let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let script = Arc::new(Mutex::new(VecDeque::new()));
        let (server, shared) = (server.to_owned(), Arc::clone(&script));
        let memory = Arc::new(Memory::default());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, script) = (server.clone(), Arc::clone(&shared));
                let memory = Arc::clone(&memory);
                std::thread::spawn(move || serve(client, &server, &script, &memory));
            }
        });
        Self {
            address,
            path: path.to_owned(),
            script,
        }
    }

    /// Its own URL, with the path of the server's.
    pub fn url(&self) -> String {
        let url = format!("http://{}/{}", self.address, self.path);
        url.trim_end_matches('/').to_owned()
    }

    /// The next requests fail like this.
    pub fn next(&self, faults: &[Fault]) {
        self.done();
        self.lock().extend(faults);
    }

    /// All faults were seen.
    pub fn done(&self) {
        let left = self.lock();
        assert!(left.is_empty(), "no request met {left:?}");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Fault>> {
        self.script.lock().expect("no panic under the lock")
    }
}

/// What a list shows may be out of date, in both directions; what is asked for by name is not.
///
/// `storage` is empty and reached by `stub`. Whoever lists sees what the server said; nothing else may follow from it.
///
/// # Panics
///
/// Where something does.
pub fn a_stale_list_misleads_nobody(storage: &dyn Storage, stub: &Stub) {
    let [one, two] = [1, 2].map(ObjectName::repository);
    let listed = |fault| {
        let mut names = Vec::new();
        stub.next(&[fault]);
        let visit = &mut |name, _| names.push(name);
        storage.list("repository/", visit).expect("lists");
        stub.done();
        names
    };
    storage.create(&one, b"one").expect("creates");
    assert_eq!(listed(Fault::Remembered), std::slice::from_ref(&one));
    // Not listed yet.
    assert_eq!(storage.create(&two, b"two").expect("creates"), Put::Stored);
    assert_eq!(listed(Fault::Stale), std::slice::from_ref(&one));
    assert!(storage.stat(&two).expect("answers").is_some());
    assert_eq!(storage.get(&two, 10).expect("reads"), b"two");
    let again = storage.create(&two, b"other").expect("answers");
    assert_eq!(again, Put::AlreadyThere);
    // Listed still.
    storage.delete(&one).expect("deletes");
    assert_eq!(listed(Fault::Stale), std::slice::from_ref(&one));
    assert_eq!(storage.stat(&one).expect("answers"), None);
    let missing = storage.get(&one, 10);
    assert!(matches!(missing, Err(StorageError::NotFound { .. })));
    storage.delete(&one).expect("is gone already");
    assert_eq!(storage.create(&one, b"new").expect("creates"), Put::Stored);
    assert_eq!(storage.get(&one, 10).expect("reads"), b"new");
}

/// Answers one request: each has a connection of its own, because every answer says so.
fn serve(mut client: TcpStream, server: &str, script: &Mutex<VecDeque<Fault>>, memory: &Memory) {
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
        Some(Fault::Remembered) => {
            let body = drain(&mut client, &head, rest);
            let answer = ask(server, &head, &body);
            let _ = client.write_all(&answer);
            *memory.lock().expect("no panic under the lock") = answer;
        }
        Some(Fault::Stale) => {
            drain(&mut client, &head, rest);
            let answer = memory.lock().expect("no panic under the lock");
            let _ = client.write_all(&answer);
        }
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
