//! The reader of dumps, tried on texts.

use super::*;

const DUMP: &str = "-- MariaDB dump\n\
CREATE SEQUENCE `sq` start with 100 cache 1 nocycle ENGINE=InnoDB;\n\
DO SETVAL(`sq`, 5100, 0);\n\
CREATE TABLE `t` (\n  `id` int(11) NOT NULL AUTO_INCREMENT,\n  `n` bigint(20) DEFAULT nextval(`ca`.`sq`)\n) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb4;\n\
INSERT INTO `t` VALUES\n(1,'),(\\n'),\n(2,'x;');\nINSERT INTO `t` VALUES\n(3,'z');\n\
COMMIT;\n\
CREATE TABLE `empty` (\n  `id` int(11)\n) ENGINE=InnoDB;\n\
INSERT INTO `g``en` (`a) VALUES (`, row_start) VALUES (1,2),\n(2,4);\n\
\n-- Dump completed\n";

fn read(dump: &str, block: usize) -> (Dumped, String) {
    let mut reader = DumpReader::new("ca", false);
    let mut out = Vec::new();
    for block in dump.as_bytes().chunks(block) {
        reader.feed(block, &mut out);
    }
    let dumped = reader.finish(&mut out);
    (dumped, String::from_utf8(out).expect("text"))
}

#[test]
fn rows_definitions_and_sequences_are_found_whatever_the_blocks() {
    let (dumped, out) = read(DUMP, DUMP.len());
    assert_eq!(dumped.faults, [""; 0]);
    assert!(dumped.is_complete);
    let rows = |name: &str| dumped.tables.get(name).and_then(TableFacts::rows);
    assert_eq!(rows("t"), Some(3));
    assert_eq!(rows("empty"), Some(0));
    assert_eq!(rows("g`en"), Some(2));
    assert_eq!(dumped.definitions["t"].auto_increment, Some(5));
    assert_eq!(dumped.definitions["empty"].auto_increment, None);
    assert_eq!(dumped.sequences["sq"].next.as_deref(), Some("5100"));
    for block in [1, 2, 7, 64] {
        assert_eq!(read(DUMP, block), (dumped.clone(), out.clone()), "{block}");
    }
    assert!(out.contains("DEFAULT nextval(`sq`)\n"), "{out}");
    assert!(out.contains("(2,'x;'),\n(3,'z');\nCOMMIT;\n"), "{out}");
    assert!(out.contains("row_start) VALUES\n(1,2),\n(2,4);\n"), "{out}");
    assert_eq!(
        read(&out, 11),
        (dumped, out.clone()),
        "it reads what it wrote"
    );
}

#[test]
fn the_next_number_is_not_part_of_a_definition() {
    let other = DUMP.replace("AUTO_INCREMENT=5", "AUTO_INCREMENT=77");
    let (one, two) = (read(DUMP, 99).0, read(&other, 99).0);
    assert_eq!(one.definitions["t"].sha256, two.definitions["t"].sha256);
    assert_ne!(one.definitions["t"], two.definitions["t"]);
}

#[test]
fn a_cut_dump_is_not_complete() {
    for end in 1..DUMP.len() - 1 {
        let (dumped, _) = read(&DUMP[..end], 64);
        assert!(!dumped.is_complete || !dumped.faults.is_empty(), "{end}");
    }
}

/// Rows of about a hundred bytes.
fn many(rows: impl Iterator<Item = u32>, a_statement: usize) -> String {
    let rows: Vec<u32> = rows.collect();
    let mut dump = String::new();
    for rows in rows.chunks(a_statement) {
        let rows: Vec<String> = rows.iter().map(|n| format!("({n},'{n:090}')")).collect();
        dump.push_str("INSERT INTO `t` VALUES\n");
        dump.push_str(&rows.join(",\n"));
        dump.push_str(";\n");
    }
    dump + "-- Dump completed\n"
}

#[test]
fn statements_end_where_their_rows_say() {
    let (first, plain) = read(&many(0..50_000, 9_000), 4096);
    assert_eq!(read(&many(0..50_000, 123), 999), (first, plain.clone()));
    let (_, more) = read(
        &many((0..50_000).chain([77_777]).rev().map(|n| 77_777 - n), 9_000),
        4096,
    );
    assert!(more.len() > plain.len());
    let (_, with_one) = read(&many([99_999].into_iter().chain(0..50_000), 9_000), 4096);
    let lines: std::collections::HashSet<&str> = plain.lines().collect();
    let changed = with_one
        .lines()
        .filter(|line| !lines.contains(line))
        .count();
    assert!(changed < 20, "{changed} lines are others");
    let longest = plain.split(";\n").map(str::len).max();
    assert!(longest < Some(STATEMENT_MAX + 1000), "{longest:?}");
}

#[test]
fn a_long_row_is_not_kept() {
    let long = "ab".repeat(3 * LINE_KEPT);
    for head in ["VALUES\n", "(`a`, `b`) VALUES "] {
        let dump = format!(
            "INSERT INTO `t` {head}(1,0x{long}),\n(2,''),\n(3,0x{long});\nINSERT INTO `t` {head}(4,0x{long});\n-- Dump completed\n"
        );
        let (whole, out) = read(&dump, dump.len());
        assert_eq!(read(&dump, 100_000), (whole.clone(), out), "{head}");
        assert_eq!(whole.faults, [""; 0]);
        assert_eq!(whole.tables["t"].rows(), Some(4));
    }
}

#[test]
fn rows_of_other_tables_are_left_out_on_demand() {
    let wanted = BTreeSet::from(["g`en".to_owned()]);
    let mut reader = DumpReader::only("ca", &wanted);
    let mut out = Vec::new();
    reader.feed(DUMP.as_bytes(), &mut out);
    let dumped = reader.finish(&mut out);
    let out = String::from_utf8(out).expect("text");
    assert!(
        !out.contains("INSERT INTO `t`") && out.contains("(2,4);\n"),
        "{out}"
    );
    assert!(out.contains("CREATE TABLE `t`"));
    assert_eq!(dumped.tables["t"].rows(), Some(3));
}
