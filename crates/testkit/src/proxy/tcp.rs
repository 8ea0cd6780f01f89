//! One connection of bytes: what is read gets a time when it is due, and is passed on then.
//!
//! Reading goes on while bytes are on their way, so that a long delay does not limit throughput.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::{Faults, Shared, pause_until};

/// The longest piece, in bytes.
const PIECE: usize = 32 << 10;
/// Pieces on their way in one direction.
const ON_THEIR_WAY: usize = 2048;

type Piece = (Instant, Vec<u8>);

/// Passes bytes both ways until either side ends or a fault breaks the connection.
pub(super) fn pass(shared: &Arc<Shared>, client: &TcpStream, server: &TcpStream) {
    let passed = AtomicU64::new(0);
    let there = Direction {
        shared,
        from: client,
        to: server,
        passed: &passed,
        delay: |faults| faults.delay_there,
        total: &shared.bytes_there,
    };
    let back = Direction {
        from: server,
        to: client,
        delay: |faults| faults.delay_back,
        total: &shared.bytes_back,
        ..there
    };
    std::thread::scope(|scope| {
        for direction in [there, back] {
            let (sender, receiver) = sync_channel(ON_THEIR_WAY);
            scope.spawn(move || direction.read(&sender));
            scope.spawn(move || direction.write(&receiver));
        }
    });
}

#[derive(Clone, Copy)]
struct Direction<'c> {
    shared: &'c Shared,
    from: &'c TcpStream,
    to: &'c TcpStream,
    /// Bytes of this connection, both directions together.
    passed: &'c AtomicU64,
    delay: fn(&Faults) -> Duration,
    total: &'c AtomicU64,
}

impl Direction<'_> {
    /// An error on one side is an end for the other.
    fn read(self, sender: &SyncSender<Piece>) {
        let mut buffer = vec![0; PIECE];
        let mut from = self.from;
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let due = Instant::now() + (self.delay)(&self.shared.faults());
            if sender.send((due, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    }

    fn write(self, receiver: &Receiver<Piece>) {
        if self.write_all(receiver).is_ok() {
            // The end of what this side says; the other may go on.
            let _ = self.to.shutdown(Shutdown::Write);
        } else {
            // Both sides, so that the threads of the other direction end, too.
            let _ = self.to.shutdown(Shutdown::Both);
            let _ = self.from.shutdown(Shutdown::Both);
        }
    }

    fn write_all(self, receiver: &Receiver<Piece>) -> io::Result<()> {
        let mut to = self.to;
        let mut free = Instant::now();
        for (due, mut piece) in receiver {
            pause_until(due);
            self.shared.wait_while_stalled();
            let faults = self.shared.faults();
            if let Some(rate) = faults.bytes_per_second {
                free = free.max(due) + time_of(piece.len(), rate);
                pause_until(free);
            }
            let length = piece.len() as u64;
            let before = self.passed.fetch_add(length, Ordering::SeqCst);
            let left = faults
                .tear_after_bytes
                .map(|after| after.saturating_sub(before))
                .filter(|left| *left < length);
            if let Some(left) = left {
                piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            } else if self.shared.breaks_by_chance(faults.drop_one_in) {
                piece.clear();
            }
            to.write_all(&piece)?;
            self.total.fetch_add(piece.len() as u64, Ordering::SeqCst);
            if (piece.len() as u64) < length {
                self.shared.count_break();
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }
}

/// How long so many bytes take.
fn time_of(length: usize, bytes_per_second: u64) -> Duration {
    let nanoseconds = length as u64 * 1_000_000_000;
    Duration::from_nanos(nanoseconds / bytes_per_second.max(1))
}
