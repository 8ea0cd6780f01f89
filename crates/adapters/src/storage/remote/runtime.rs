//! The threads that carry the asynchronous libraries of storages; ports stay blocking (ADR 0002).

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// Threads that wait for the network; transfers are bounded elsewhere.
const THREADS: usize = 2;

/// The one runtime of this process.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("network")
            .enable_all()
            .build()
            .expect("the system can start threads")
    })
}

/// Waits for a future. Never called from within one.
pub fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}
