//! Writes `data.sql`: what a person needs to load the rows with `psql` and no Strongroom.

use std::fmt::Write as _;

use super::facts::DatabaseFacts;
use super::server::archive::set_sequence;
use super::session::{column_list, literal, qualified};

/// The script for a database whose relations, sequences and views are known.
pub(super) fn data(database: &str, facts: &DatabaseFacts) -> String {
    let mut script = format!(
        "-- The rows of the PostgreSQL database {}. By hand, into an empty database that was made with the same encoding and locale:\n\
         --   psql -f ../globals.sql postgres\n\
         --   pg_restore --section=pre-data -d NEW schema.dump\n\
         --   psql -d NEW -f data.sql\n\
         --   psql -d NEW -f large-objects.sql        (if there is one)\n\
         --   pg_restore --section=post-data -d NEW schema.dump\n\
         \\set ON_ERROR_STOP on\n\
         SET client_encoding = 'UTF8';\n\
         SET datestyle = 'ISO, YMD';\n\
         SET intervalstyle = 'postgres';\n\
         SET timezone = 'UTC';\n\
         SET standard_conforming_strings = on;\n\
         SET xmloption = content;\n\
         SET check_function_bodies = off;\n\
         SET row_security = off;\n\
         SET search_path = '';\n\
         SET statement_timeout = 0;\n",
        comment(database)
    );
    let encoding = literal(&facts.encoding);
    for relation in facts.relations.values() {
        let Some(path) = &relation.path else { continue };
        let name = qualified(&relation.schema, &relation.name);
        let mut list = column_list(&relation.columns);
        // A meta-command is one line. Without a list, the columns are the same ones in the same order.
        if list.contains('\n') {
            list.clear();
        }
        if name.contains('\n') {
            let _ = writeln!(
                script,
                "-- Not by this script, since a name has a line end: {}",
                comment(&name)
            );
        } else {
            let _ = writeln!(
                script,
                "\\copy {name}{list} FROM {} WITH (ENCODING {encoding})",
                literal(path)
            );
        }
    }
    for sequence in facts.sequences.values() {
        let _ = writeln!(script, "{};", set_sequence(&sequence.into()));
    }
    for view in facts
        .materialized_views
        .iter()
        .filter(|view| view.is_populated)
    {
        let _ = writeln!(
            script,
            "REFRESH MATERIALIZED VIEW {};",
            qualified(&view.schema, &view.name)
        );
    }
    script
}

/// Text that ends no comment.
fn comment(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
