//! A TCP proxy on loopback that delays, limits, tears, stalls and refuses connections while it runs.
//!
//! [`Proxy::start`] passes bytes on as they are; [`Proxy::start_http`] reads HTTP/1.1 and can answer in the place of
//! the server. Both obey [`Faults`], which may be changed at any time. What it did is counted, so that a test can
//! say that its faults took place. This file owns the listener; [`tcp`] and [`http`] own one connection each.

mod http;
mod random;
mod tcp;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use random::Random;

/// How often the listener looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(2);

/// What goes wrong on the way; the default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How long bytes to the server are on their way; throughput stays as it is.
    pub delay_there: Duration,
    /// How long bytes from the server are on their way.
    pub delay_back: Duration,
    /// Bytes a second, for each connection and direction.
    pub bytes_per_second: Option<u64>,
    /// Breaks a connection with a chance of one in so many, at each piece of at most 32 KiB that passes.
    pub drop_one_in: Option<u32>,
    /// Breaks each connection after exactly so many bytes, both directions together.
    pub tear_after_bytes: Option<u64>,
    /// New connections are taken and never answered; what passes on others is held back.
    pub stall: bool,
    /// Nothing listens: connections are refused by the system.
    pub refuse: bool,
    /// For [`Proxy::start_http`] alone.
    pub http: HttpFaults,
}

impl Faults {
    /// A round trip that takes so long, half of it in each direction.
    pub fn round_trip(time: Duration) -> Self {
        Self {
            delay_there: time / 2,
            delay_back: time / 2,
            ..Self::default()
        }
    }
}

/// What goes wrong with requests; they are counted over all connections, from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpFaults {
    /// Each n-th request is answered with this, and never reaches the server.
    pub answer_every: Option<(u64, HttpAnswer)>,
    /// The answer to each n-th request loses the second half of its body, and the connection breaks.
    pub cut_every: Option<u64>,
    /// The answer to each n-th request is lost and the connection breaks; the server has done what was asked.
    pub lose_every: Option<u64>,
    /// Only requests of this method are counted and meet faults, for instance `PUT`.
    pub only_method: Option<&'static str>,
}

/// An answer in the place of the server's, with a body in the XML of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpAnswer {
    /// 500 `InternalError`.
    InternalError,
    /// 503 `SlowDown`.
    SlowDown,
    /// 429 `TooManyRequests`.
    TooManyRequests,
}

/// What the proxy has done since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Connections taken.
    pub connections: u64,
    /// Connections broken by a fault.
    pub broken: u64,
    /// HTTP requests read.
    pub requests: u64,
    /// HTTP requests answered in the place of the server.
    pub answered: u64,
    /// Bytes passed on to the server.
    pub bytes_there: u64,
    /// Bytes passed on from the server.
    pub bytes_back: u64,
}

/// A running proxy; it ends with its connections when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

/// What the listener and the connections share.
struct Shared {
    target: SocketAddr,
    is_http: bool,
    faults: Mutex<Faults>,
    changed: Condvar,
    is_listening: AtomicBool,
    is_over: AtomicBool,
    random: Mutex<Random>,
    open: Mutex<Vec<TcpStream>>,
    connections: AtomicU64,
    broken: AtomicU64,
    requests: AtomicU64,
    answered: AtomicU64,
    /// Requests of the method that alone meets faults.
    of_method: AtomicU64,
    bytes_there: AtomicU64,
    bytes_back: AtomicU64,
}

impl Proxy {
    /// Listens on a free port of loopback and passes connections on to `target`.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        Self::listen(target, false)
    }

    /// As [`Proxy::start`], for a server that speaks HTTP/1.1 without TLS.
    pub fn start_http(target: SocketAddr) -> io::Result<Self> {
        Self::listen(target, true)
    }

    fn listen(target: SocketAddr, is_http: bool) -> io::Result<Self> {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            is_http,
            faults: Mutex::default(),
            changed: Condvar::new(),
            is_listening: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
            random: Mutex::new(Random::new(1)),
            open: Mutex::default(),
            connections: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            of_method: AtomicU64::new(0),
            bytes_there: AtomicU64::new(0),
            bytes_back: AtomicU64::new(0),
        });
        let thread = std::thread::Builder::new().name("proxy".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(address, listener)
        })?;
        Ok(Self {
            address,
            shared,
            listener: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the faults anew, for open connections, too; returns when they hold.
    pub fn set(&self, faults: Faults) {
        let refuse = faults.refuse;
        *lock(&self.shared.faults) = faults;
        self.shared.changed.notify_all();
        while self.shared.is_listening.load(Ordering::SeqCst) == refuse {
            pause(TICK);
        }
    }

    /// Begins the random numbers anew.
    pub fn seed(&self, seed: u64) {
        *lock(&self.shared.random) = Random::new(seed);
    }

    /// Breaks every open connection now.
    pub fn break_all(&self) {
        let open = std::mem::take(&mut *lock(&self.shared.open));
        for stream in &open {
            // It may have ended by itself.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Counts {
            connections: read(&self.shared.connections),
            broken: read(&self.shared.broken),
            requests: read(&self.shared.requests),
            answered: read(&self.shared.answered),
            bytes_there: read(&self.shared.bytes_there),
            bytes_back: read(&self.shared.bytes_back),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
        if let Some(thread) = self.listener.take() {
            // A panic there is told by the panic itself.
            let _ = thread.join();
        }
        self.break_all();
    }
}

impl Shared {
    /// Takes connections until the proxy is dropped.
    fn run(self: &Arc<Self>, address: SocketAddr, listener: TcpListener) {
        let mut listener = Some(listener);
        while !self.is_over() {
            if self.faults().refuse {
                listener = None;
            } else if listener.is_none() {
                // The port was ours; another program may have it for a moment.
                listener = bind(address).ok();
            }
            self.is_listening
                .store(listener.is_some(), Ordering::SeqCst);
            match listener.as_ref().map(TcpListener::accept) {
                Some(Ok((client, _))) => self.serve(client),
                _ => pause(TICK),
            }
        }
    }

    fn serve(self: &Arc<Self>, client: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(self);
        let serve = move || {
            let connection = shared.keep(&client).and_then(|()| {
                shared.wait_while_stalled();
                let server = TcpStream::connect(shared.target)?;
                shared.keep(&server)?;
                if shared.is_http {
                    http::pass(&shared, &client, &server)
                } else {
                    tcp::pass(&shared, &client, &server);
                    Ok(())
                }
            });
            // Either side ended, or the proxy did: the client sees a connection that ends.
            drop(connection);
            let _ = client.shutdown(std::net::Shutdown::Both);
        };
        // Not joined: a connection ends with its sockets.
        std::thread::Builder::new()
            .name("proxy connection".into())
            .spawn(serve)
            .expect("the system can start a thread");
    }

    /// Keeps a stream to break it from outside.
    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        lock(&self.open).push(stream.try_clone()?);
        Ok(())
    }

    fn faults(&self) -> Faults {
        lock(&self.faults).clone()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn wait_while_stalled(&self) {
        let mut faults = lock(&self.faults);
        while faults.stall && !self.is_over() {
            let waited = self.changed.wait_timeout(faults, 10 * TICK);
            faults = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether this piece is the one at which the connection breaks by chance.
    fn breaks_by_chance(&self, one_in: Option<u32>) -> bool {
        one_in.is_some_and(|one_in| lock(&self.random).is_one_in(one_in))
    }

    fn count_break(&self) {
        self.broken.fetch_add(1, Ordering::SeqCst);
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until then; nothing when it is past.
fn pause_until(due: Instant) {
    pause(due.saturating_duration_since(Instant::now()));
}

#[expect(
    clippy::disallowed_methods,
    reason = "a line that is slow takes time; nothing is decided by the clock"
)]
fn pause(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}
