//! Keeps what the process knows out of core dumps: identities and keys are in its memory.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on a crash of this process leaves no core dump, and nobody but root can look into it.
///
/// Both are needed: a kernel that pipes dumps into a program does not ask for the limit, and a program that is started does not
/// keep the other, but inherits the limit.
pub(crate) fn forbid() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn the_process_is_not_dumped() {
        forbid().expect("a limit can be lowered");
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        let behavior = dumpable_behavior().expect("known");
        assert_eq!(behavior, DumpableBehavior::NotDumpable);
    }
}
