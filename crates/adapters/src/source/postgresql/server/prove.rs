//! Compares a restored database with the facts of its capture. The same questions are asked on both sides.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use strongroom_core::source::server::LoadedDatabase;
use strongroom_core::source::tables::{Differences, LineDigest, TableFacts};
use strongroom_core::source::{CaptureError, Proof};

use super::super::catalogue::{self, Table};
use super::super::facts::{DatabaseFacts, Grant, Setting};
use super::super::session::{Session, SessionError, literal};
use super::super::settings::NewestColumn;
use super::super::snapshot::PINNED;
use super::PostgresqlServer;
use super::wanted::Wanted;

pub(super) fn prove(
    server: &PostgresqlServer,
    name: &str,
    database: &LoadedDatabase<'_>,
) -> Result<Proof, CaptureError> {
    let wanted = Wanted::read(database.original, database.facts, database.options)?;
    let mut session = server.open(name, database.cancel)?;
    let failed = |error: SessionError| error.while_doing("look at the restored database");
    session.execute(PINNED).map_err(failed)?;
    let mut proof = Proof::default();
    let mut differences = Differences::default();
    let now = catalogue::database(&mut session).map_err(failed)?;
    compare_database(&wanted, &now, &mut differences, &mut proof);

    let (sequences, unreadable) = catalogue::sequences(&mut session).map_err(failed)?;
    for (key, sequence) in &wanted.facts.sequences {
        match sequences.get(key) {
            None if unreadable.contains(key) => {
                proof
                    .notes
                    .push(format!("sequence {key:?} may not be read"));
            }
            None => differences.push(format!("sequence {key:?} is missing")),
            Some(now) => {
                let what = format!("sequence {key:?}");
                differences.compare(&what, &sequence.last_value, &now.last_value);
                let what = format!("whether sequence {key:?} was used");
                differences.compare(&what, &sequence.is_called, &now.is_called);
            }
        }
    }

    let tables = catalogue::tables(&mut session).map_err(failed)?;
    let is_wanted = |table: &Table| {
        let relation = wanted.facts.relations.get(&table.key());
        relation.is_none_or(|relation| wanted.is_table_wanted(relation))
    };
    let mut captured = wanted.facts.tables.clone();
    captured.retain(|key, _| {
        let relation = wanted.facts.relations.get(key);
        relation.is_none_or(|relation| wanted.is_table_wanted(relation))
    });
    if session.server_major() != wanted.major() {
        let (was, is) = (wanted.major(), session.server_major());
        proof.notes.push(format!(
            "rows were counted and not digested: PostgreSQL {is} may write values otherwise than {was}"
        ));
        for table in captured.values_mut() {
            if let TableFacts::Read { digest, .. } = table {
                *digest = None;
            }
        }
    }
    let to_read: Vec<&Table> = tables
        .iter()
        .filter(|table| table.has_rows() && is_wanted(table))
        .collect();
    let restored = read_tables(
        server,
        name,
        database,
        &to_read,
        &captured,
        &wanted.facts.encoding,
    )?;
    differences.tables(&captured, &restored);
    let rows: u64 = restored.values().filter_map(TableFacts::rows).sum();
    proof.shown.push(format!(
        "{} tables have the {rows} rows that were captured",
        restored.len()
    ));

    compare_content(&wanted, &mut session, &tables, &mut differences).map_err(failed)?;
    proof.failures = differences.into_vec();
    if !proof.failures.is_empty() {
        proof.shown.clear();
    }
    Ok(proof)
}

fn compare_database(
    wanted: &Wanted,
    now: &DatabaseFacts,
    differences: &mut Differences,
    proof: &mut Proof,
) {
    let was = &wanted.facts;
    let none = "none".to_owned();
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| none.clone());
    differences.compare("the encoding", &was.encoding, &now.encoding);
    differences.compare("the collation", &was.collate, &now.collate);
    differences.compare("the character type", &was.ctype, &now.ctype);
    differences.compare(
        "the locale provider",
        &was.locale_provider,
        &now.locale_provider,
    );
    differences.compare("the locale", &text(&was.locale), &text(&now.locale));
    differences.compare("the owner", &wanted.role(&was.owner), &now.owner);
    differences.compare("the comment", &text(&was.comment), &text(&now.comment));
    differences.compare("the tablespace", &was.tablespace, &now.tablespace);
    differences.compare(
        "the connection limit",
        &was.connection_limit,
        &now.connection_limit,
    );
    let same = |name: &str| name.to_owned();
    let mapped = |name: &str| wanted.role(name).to_owned();
    differences.compare(
        "the privileges on the database",
        &grants(was.grants.as_deref(), &mapped),
        &grants(now.grants.as_deref(), &same),
    );
    differences.compare(
        "the settings of the database",
        &settings(&was.settings, &mapped),
        &settings(&now.settings, &same),
    );
    let list = |names: &[String]| names.join(", ");
    differences.compare(
        "the event triggers",
        &list(&was.event_triggers),
        &list(&now.event_triggers),
    );
    differences.compare(
        "the publications",
        &list(&was.publications),
        &list(&now.publications),
    );
    for (name, extension) in &was.extensions {
        match now.extensions.get(name) {
            None => differences.push(format!("extension {name:?} is missing")),
            Some(now) => {
                let what = format!("the schema of extension {name:?}");
                differences.compare(&what, &extension.schema, &now.schema);
                if now.version != extension.version {
                    let (was, is) = (&extension.version, &now.version);
                    proof.notes.push(format!(
                        "extension {name:?} was of version {was} and is of {is}"
                    ));
                }
            }
        }
    }
    if !wanted.is_partial() {
        differences.compare(
            "the number of large objects",
            &was.large_objects,
            &now.large_objects,
        );
    }
}

fn grants(grants: Option<&[Grant]>, role: &dyn Fn(&str) -> String) -> String {
    let Some(grants) = grants else {
        return "the default".to_owned();
    };
    let mut lines: Vec<String> = grants
        .iter()
        .map(|grant| {
            let grantee = grant
                .grantee
                .as_deref()
                .map_or("everybody".to_owned(), role);
            let option = if grant.is_grantable { "*" } else { "" };
            format!("{}{option} to {grantee}", grant.privilege)
        })
        .collect();
    lines.sort();
    // Two roles that became one have its privileges once.
    lines.dedup();
    lines.join(", ")
}

fn settings(settings: &[Setting], role: &dyn Fn(&str) -> String) -> String {
    let mut lines: Vec<String> = settings
        .iter()
        .map(|setting| {
            let role = setting.role.as_deref().map_or("everybody".to_owned(), role);
            format!("{} = {} for {role}", setting.name, setting.value)
        })
        .collect();
    lines.sort();
    lines.join(", ")
}

/// Views, newest values and migrations.
fn compare_content(
    wanted: &Wanted,
    session: &mut Session,
    tables: &[Table],
    differences: &mut Differences,
) -> Result<(), SessionError> {
    let now: BTreeMap<(String, String), bool> = catalogue::materialized_views(session)?
        .into_iter()
        .map(|view| ((view.schema, view.name), view.is_populated))
        .collect();
    for view in &wanted.facts.materialized_views {
        let name = format!("{}.{}", view.schema, view.name);
        match now.get(&(view.schema.clone(), view.name.clone())) {
            None => differences.push(format!("materialized view {name:?} is missing")),
            Some(_) if wanted.is_partial() => {}
            Some(is) => {
                let what = format!("whether materialized view {name:?} is populated");
                differences.compare(&what, &view.is_populated, is);
            }
        }
    }
    for (key, was) in &wanted.facts.newest {
        let Ok(column) = NewestColumn::try_from(key.clone()) else {
            continue;
        };
        let relations = &wanted.facts.relations;
        let table = super::super::facts::key(column.schema(), column.table());
        if relations
            .get(&table)
            .is_some_and(|one| !wanted.is_table_wanted(one))
        {
            continue;
        }
        let is = catalogue::newest(session, &column)?;
        differences.compare(&format!("the newest value of {key}"), was, &is);
    }
    for table in tables {
        let Some(was) = wanted.facts.migrations.get(&table.key()) else {
            continue;
        };
        let relation = wanted.facts.relations.get(&table.key());
        if relation.is_some_and(|one| !wanted.is_table_wanted(one)) {
            continue;
        }
        if catalogue::migrations(session, table)? != *was {
            differences.push(format!("the migrations in {:?} are others", table.key()));
        }
    }
    Ok(())
}

/// Counts the rows of tables, and digests them where the capture did; several at a time.
fn read_tables(
    server: &PostgresqlServer,
    name: &str,
    database: &LoadedDatabase<'_>,
    tables: &[&Table],
    captured: &BTreeMap<String, TableFacts>,
    encoding: &str,
) -> Result<BTreeMap<String, TableFacts>, CaptureError> {
    let queue = Mutex::new(tables.iter());
    let read = Mutex::new(BTreeMap::new());
    let work = || -> Result<(), CaptureError> {
        let mut session = server.open(name, database.cancel)?;
        let failed = |error: SessionError| error.while_doing("read the restored tables");
        session.execute(PINNED).map_err(failed)?;
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(table) = next else { return Ok(()) };
            let has_digest = matches!(
                captured.get(&table.key()),
                Some(TableFacts::Read {
                    digest: Some(_),
                    ..
                })
            );
            let facts = match read_table(&mut session, table, has_digest, encoding) {
                Err(error) if error.is_end() => return Err(failed(error)),
                Err(error) => TableFacts::Unreadable {
                    error: error.to_string(),
                },
                Ok(facts) => facts,
            };
            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
            read.insert(table.key(), facts);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..server.jobs().min(tables.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut ends = workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker panics"));
        ends.try_for_each(|end| end)
    })?;
    Ok(read.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn read_table(
    session: &mut Session,
    table: &Table,
    has_digest: bool,
    encoding: &str,
) -> Result<TableFacts, SessionError> {
    let (name, condition) = (table.quoted(), table.condition());
    if !has_digest {
        let sql = format!("SELECT to_json(count(*)) FROM ONLY {name} {condition}");
        return Ok(TableFacts::Read {
            rows: session.read(&sql)?,
            digest: None,
        });
    }
    let columns = table.column_list();
    // Digests are those of the database's own encoding.
    let form = format!("WITH (FORMAT text, ENCODING {})", literal(encoding));
    let sql = if condition.is_empty() {
        format!("COPY {name}{columns} TO STDOUT {form}")
    } else {
        let names = columns.trim().trim_start_matches('(').trim_end_matches(')');
        format!("COPY (SELECT {names} FROM ONLY {name} {condition}) TO STDOUT {form}")
    };
    let mut digest = LineDigest::default();
    let rows = session.copy_out(&sql, |block| {
        digest.update(block);
        Ok::<(), SessionError>(())
    })?;
    let facts = digest
        .finish()
        .map_err(|error| SessionError::Answer(error.to_string()))?;
    if rows.is_some() && rows != facts.rows() {
        return Err(SessionError::Answer(format!(
            "the server counts {rows:?} rows, and {:?} went by",
            facts.rows()
        )));
    }
    Ok(facts)
}
