//! 32 secret bytes on a page of their own that is kept out of swap where the system allows it.

use zeroize::Zeroize as _;

/// The size of the page; also its alignment, so that nothing else lies on it.
const PAGE: usize = 4096;

#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Secret bytes: wiped when dropped, locked into memory when `RLIMIT_MEMLOCK` allows it.
pub(super) struct Locked {
    page: Box<Page>,
    lock: Option<region::LockGuard>,
}

impl Locked {
    /// Room for 32 bytes, all zero.
    pub(super) fn new() -> Self {
        let page = Box::new(Page([0; PAGE]));
        let lock = region::lock(page.0.as_ptr(), PAGE).ok();
        Self { page, lock }
    }

    /// Whether the system keeps the page out of swap.
    pub(super) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        self.page.0.first_chunk().expect("a page has 32 bytes")
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8; 32] {
        self.page.0.first_chunk_mut().expect("a page has 32 bytes")
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Before the fields are dropped, the lock among them.
        self.page.0.zeroize();
    }
}
