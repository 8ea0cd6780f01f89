//! What every [`DatabaseServer`] must hold to: names are swapped whole, and each call can be repeated.

use std::path::Path;

use strongroom_core::source::server::{DatabaseServer, SwapNames};

/// A server under test, with a way to make databases that can be told apart.
pub trait ServerFixture {
    /// The server.
    fn server(&self) -> &dyn DatabaseServer;

    /// Creates a database that holds `mark`.
    fn make(&self, name: &str, mark: &str);

    /// What a database holds; none if it does not exist.
    fn mark(&self, name: &str) -> Option<String>;
}

const LIVE: &str = "ca";
const NEW: &str = "strongroom-20261120-153000Z-k3f9-0-new";
const OLD: &str = "strongroom-20261120-153000Z-k3f9-0-old";

/// Runs the suite on a server that has none of its databases. `keep` is a private directory.
pub fn run(fixture: &dyn ServerFixture, keep: &Path) {
    unknown_names_are_no_error(fixture);
    a_swap_keeps_what_it_replaces(fixture, keep);
    a_swap_without_a_live_database_replaces_nothing(fixture, keep);
    a_live_database_that_is_not_to_be_replaced_stays(fixture, keep);
    another_database_is_never_touched(fixture, keep);
}

fn names(keep: &Path) -> SwapNames<'_> {
    SwapNames {
        live: LIVE,
        new: NEW,
        old: OLD,
        replaces: true,
        keep,
    }
}

#[track_caller]
fn assert_marks(fixture: &dyn ServerFixture, marks: [Option<&str>; 3], when: &str) {
    let found = [LIVE, NEW, OLD].map(|name| fixture.mark(name));
    let found = [0, 1, 2].map(|at| found[at].as_deref());
    assert_eq!(found, marks, "live, new, old {when}");
    for (name, mark) in [LIVE, NEW, OLD].into_iter().zip(marks) {
        let has = fixture.server().has(name).expect("answers");
        assert_eq!(has, mark.is_some(), "{name} {when}");
    }
}

fn clean(fixture: &dyn ServerFixture) {
    for name in [LIVE, NEW, OLD] {
        fixture.server().drop_database(name).expect("drops");
    }
    assert_marks(fixture, [None; 3], "after all are dropped");
}

fn unknown_names_are_no_error(fixture: &dyn ServerFixture) {
    assert!(!fixture.server().has("no such database").expect("answers"));
    fixture
        .server()
        .drop_database("no such database")
        .expect("nothing to do");
}

fn a_swap_keeps_what_it_replaces(fixture: &dyn ServerFixture, keep: &Path) {
    let server = fixture.server();
    fixture.make(LIVE, "before");
    fixture.make(NEW, "restored");
    for when in ["after the swap", "after the swap, asked again"] {
        server.swap_in(&names(keep)).expect("swaps");
        assert_marks(fixture, [Some("restored"), None, Some("before")], when);
    }
    for when in ["after the way back", "after the way back, asked again"] {
        server.swap_back(&names(keep)).expect("swaps back");
        // What was live may be kept under the new name or be gone.
        server.drop_database(NEW).expect("drops");
        assert_marks(fixture, [Some("before"), None, None], when);
    }
    fixture.make(NEW, "restored again");
    server.swap_in(&names(keep)).expect("swaps");
    for when in ["after the sign-off", "after the sign-off, asked again"] {
        server.drop_database(OLD).expect("drops");
        assert_marks(fixture, [Some("restored again"), None, None], when);
    }
    clean(fixture);
}

fn a_swap_without_a_live_database_replaces_nothing(fixture: &dyn ServerFixture, keep: &Path) {
    let server = fixture.server();
    let names = |keep| SwapNames {
        replaces: false,
        ..names(keep)
    };
    for undo in [false, true] {
        fixture.make(NEW, "restored");
        for _ in 0..2 {
            server.swap_in(&names(keep)).expect("swaps");
            assert_eq!(fixture.mark(LIVE).as_deref(), Some("restored"));
            assert!(!server.has(NEW).expect("answers"));
        }
        if undo {
            server.swap_back(&names(keep)).expect("swaps back");
            // Live is free again, or still what was restored.
            let live = fixture.mark(LIVE);
            assert!(
                live.is_none() || live.as_deref() == Some("restored"),
                "{live:?}"
            );
        } else {
            server.drop_database(OLD).expect("drops");
            assert_marks(fixture, [Some("restored"), None, None], "signed off");
        }
        clean(fixture);
    }
}

fn a_live_database_that_is_not_to_be_replaced_stays(fixture: &dyn ServerFixture, keep: &Path) {
    let server = fixture.server();
    fixture.make(NEW, "restored");
    fixture.make(LIVE, "of the CA");
    let names = SwapNames {
        replaces: false,
        ..names(keep)
    };
    for when in ["refused", "refused again"] {
        server.swap_in(&names).expect_err("it came later");
        assert_marks(fixture, [Some("of the CA"), Some("restored"), None], when);
    }
    // Once it is out of the way, the same call goes on.
    server.drop_database(LIVE).expect("drops");
    server.swap_in(&names).expect("swaps");
    server.drop_database(OLD).expect("drops");
    assert_marks(fixture, [Some("restored"), None, None], "swapped");
    clean(fixture);
}

fn another_database_is_never_touched(fixture: &dyn ServerFixture, keep: &Path) {
    let server = fixture.server();
    let other = "strongroom-20261120-153000Z-k3f9-1-old";
    fixture.make(other, "of another restore");
    fixture.make(LIVE, "before");
    fixture.make(NEW, "restored");
    server.swap_in(&names(keep)).expect("swaps");
    server.drop_database(OLD).expect("drops");
    assert_eq!(fixture.mark(other).as_deref(), Some("of another restore"));
    server.drop_database(other).expect("drops");
    clean(fixture);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_server::MemoryServer;

    impl ServerFixture for MemoryServer {
        fn server(&self) -> &dyn DatabaseServer {
            self
        }

        fn make(&self, name: &str, mark: &str) {
            self.put(name, &[("mark", mark)]);
        }

        fn mark(&self, name: &str) -> Option<String> {
            Some(self.databases().get(name)?.get("mark")?.clone())
        }
    }

    #[test]
    fn the_server_in_memory_conforms() {
        let keep = tempfile::tempdir().expect("a directory");
        run(&MemoryServer::new(), keep.path());
    }
}
