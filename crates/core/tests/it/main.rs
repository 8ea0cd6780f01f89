//! The engine under faults: every storage call and every step of a restore fails once, the clock jumps, state is lost.

mod backup_faults;
mod clock;
mod copy_expiry;
mod expire;
mod outage;
mod replaced;
mod reseal;
mod restore_steps;
mod stale;
mod streams;
mod world;
