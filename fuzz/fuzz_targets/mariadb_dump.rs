//! The dumps of `mariadb-dump`, read as they go by.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_adapters::source::mariadb::read_dump;

fuzz_target!(|data: &[u8]| {
    let (block, dump) = match data {
        [first, rest @ ..] => (usize::from(*first) + 1, rest),
        [] => return,
    };
    let whole = read_dump("ca", [dump]);
    // Where blocks end says nothing.
    assert_eq!(read_dump("ca", dump.chunks(block)), whole);
    if whole.is_complete && whole.faults.is_empty() {
        // What is stored is a dump of the same rows.
        let again = read_dump("ca", [whole.text.as_slice()]);
        assert!(again.is_complete, "still complete");
        assert_eq!(again.faults, [""; 0]);
        assert_eq!(again.tables, whole.tables);
        assert_eq!(read_dump("ca", [again.text.as_slice()]).text, again.text);
    }
});
