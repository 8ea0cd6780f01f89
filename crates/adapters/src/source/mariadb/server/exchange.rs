//! Exchanges the live database with one that waits in another schema.
//!
//! The same in both directions: `swap_in` takes `new` in and puts what is live into `old`, `swap_back` takes `old` in and puts what is live
//! into `new`. The state of a schema is the name of its stowage:
//!
//! | `from` has | `to` has | so far | what is left to do |
//! |---|---|---|---|
//! | parked | nothing | nothing changed | save the text of the live objects into `to` |
//! | parked | saved | the live objects may be dropped in part | drop them, move all tables at once |
//! | parked | moved | an exchange the other way stopped after its move | drop the live objects, move all tables at once |
//! | moved | parked | the tables are where they belong | load the text, see that all objects are there, drop `from` |
//! | saved | parked | an exchange the other way stopped before its move | load the text into the live schema again, drop `from` |
//! | none of these, no table | | done but for the last step, or never begun | drop `from` |
//! | is not there | | done | |
//!
//! Where nothing was live, `to` is made all the same, and its stowage says so: an undo, also of an exchange that stopped, then drops what is live.
//!
//! The move is one `RENAME TABLE`, which also renames the stowage: `saved` or `moved` of `to` becomes `parked`, `parked` of
//! `from` becomes `moved`. From MariaDB 10.6 on it is atomic also when the server crashes.

use std::collections::BTreeMap;
use std::io::Write as _;

use strongroom_core::source::CaptureError;
use strongroom_core::source::server::DatabaseServer as _;

use super::super::accounts;
use super::super::capture::asked;
use super::super::catalogue::{Catalogue, Table};
use super::super::dump;
use super::super::session::Session;
use super::super::sql;
use super::MariadbServer;
use super::stowage::{self, MOVED, PARKED, SAVED, Stowage};

/// How often the move is tried while sessions come back.
const MOVE_TRIES: u32 = 3;

const ER_LOCK_WAIT_TIMEOUT: u32 = 1205;

/// A schema as the exchange sees it.
struct Schema {
    name: String,
    catalogue: Catalogue,
    states: Vec<&'static str>,
}

impl Schema {
    fn read(session: &mut Session, name: &str) -> Result<Option<Self>, CaptureError> {
        let read = Catalogue::read(session, name).map_err(asked("read the catalogue"))?;
        Ok(read.map(|mut catalogue| {
            let states = [PARKED, SAVED, MOVED];
            let has = |state: &&str| catalogue.tables.contains_key(*state);
            let states = states.into_iter().filter(has).collect();
            stowage::forget(&mut catalogue);
            Self {
                name: name.to_owned(),
                catalogue,
                states,
            }
        }))
    }

    fn is(&self, state: &str) -> bool {
        self.states.contains(&state)
    }

    fn is_empty(&self) -> bool {
        self.catalogue.tables.is_empty() && self.catalogue.objects.is_empty()
    }

    fn moves<'s>(&'s self, to: &'s str) -> impl Iterator<Item = String> + 's {
        let tables: &BTreeMap<String, Table> = &self.catalogue.tables;
        tables
            .keys()
            .map(move |table| step(&self.name, table, to, table))
    }
}

fn create(
    session: &mut Session,
    name: &str,
    character_set: &str,
    collation: &str,
) -> Result<(), CaptureError> {
    session
        .execute(&format!(
            "CREATE DATABASE {} CHARACTER SET {} COLLATE {}",
            sql::name(name),
            sql::name(character_set),
            sql::name(collation)
        ))
        .map_err(asked(&format!("create the database {name:?}")))
}

/// Columns whose default is the next value of a sequence name the schema that the sequence was created in: name the live one.
fn repoint(session: &mut Session, live: &str, from: &str) -> Result<(), CaptureError> {
    let failed = || asked("correct the defaults of columns that come from sequences");
    let old = format!("{}.", sql::name(from));
    let defaults: Vec<(String, String, String)> = session
        .json(&format!(
            "SELECT JSON_ARRAY(table_name, column_name, column_default) FROM information_schema.columns \
             WHERE table_schema = {} AND column_default LIKE 'nextval(%' AND INSTR(column_default, {}) > 0",
            sql::text(live),
            sql::text(&old)
        ))
        .map_err(failed())?;
    if !defaults.is_empty() {
        let keep = "SET SESSION system_versioning_alter_history = KEEP";
        session.execute(keep).map_err(failed())?;
    }
    for (table, column, default) in defaults {
        let default = default.replace(&old, &format!("{}.", sql::name(live)));
        session
            .execute(&format!(
                "ALTER TABLE {}.{} ALTER COLUMN {} SET DEFAULT ({default})",
                sql::name(live),
                sql::name(&table),
                sql::name(&column)
            ))
            .map_err(failed())?;
    }
    Ok(())
}

/// One step of a `RENAME TABLE`.
fn step(from: &str, table: &str, to: &str, renamed: &str) -> String {
    let name = sql::name;
    format!(
        "{}.{} TO {}.{}",
        name(from),
        name(table),
        name(to),
        name(renamed)
    )
}

impl MariadbServer {
    /// Takes what is in `from` live, and puts what is live into `to`; unless it `replaces` something, nothing may be live.
    pub(super) fn exchange(
        &self,
        live: &str,
        (from, to): (&str, &str),
        replaces: bool,
    ) -> Result<(), CaptureError> {
        let names = [live, from, to];
        let mut session = self.session_alone(&names)?;
        let Some(waiting) = Schema::read(&mut session, from)? else {
            return Ok(());
        };
        if waiting.is(PARKED) {
            if !replaces {
                refuse_live(&mut session, live, to)?;
            }
            self.move_tables(&mut session, live, &waiting, to)?;
        } else if waiting.is(SAVED) {
            // A client of the interrupted exchange may still have text to load.
            self.end_sessions(live)?;
            let statement = format!("RENAME TABLE {}", step(from, SAVED, from, MOVED));
            session
                .execute(&statement)
                .map_err(asked("take the exchange back"))?;
        } else if waiting.is(MOVED) {
            self.end_sessions(live)?;
        } else {
            if waiting.is_empty() {
                drop(session);
                return self.drop_database(from);
            }
            return Err(CaptureError::Unsuitable {
                path: from.into(),
                why: "was not loaded to its end".to_owned(),
                hint: "Run the restore again; it loads the database anew.",
            });
        }
        self.load_objects(&mut session, live, from)?;
        drop(session);
        self.drop_database(from)
    }

    fn move_tables(
        &self,
        session: &mut Session,
        live: &str,
        waiting: &Schema,
        to: &str,
    ) -> Result<(), CaptureError> {
        let stowed = Stowage::get(session, &waiting.name, PARKED)?;
        let place = Schema::read(session, live)?;
        let saved = self.save(session, live, place.as_ref(), &stowed, to)?;
        let mut steps = vec![step(to, saved, to, PARKED)];
        if let Some(replaced) = &place {
            self.end_sessions(live)?;
            drop_objects(session, live, &replaced.catalogue)?;
            steps.extend(replaced.moves(to));
        } else {
            create(session, live, &stowed.character_set, &stowed.collation)?;
        }
        steps.extend(waiting.moves(live));
        steps.push(step(&waiting.name, PARKED, &waiting.name, MOVED));
        let statement = format!("RENAME TABLE {}", steps.join(", "));
        for tried in 1.. {
            self.end_sessions(live)?;
            match session.execute(&statement) {
                Ok(()) => break,
                Err(error)
                    if error.number() == Some(ER_LOCK_WAIT_TIMEOUT) && tried < MOVE_TRIES =>
                {
                    // The error has ended the session.
                    *session = self.session_alone(&[live, &waiting.name, to])?;
                }
                Err(error) => {
                    return Err(asked(&format!(
                        "move the tables of {live:?} and {:?}; end the sessions that use them, then run the command again",
                        waiting.name
                    ))(error));
                }
            }
        }
        Ok(())
    }

    /// Sees to it that `to` holds the text of the live objects, from before any was dropped, and returns under which state. Where
    /// nothing is live, `to` says so: an undo must know it at any time.
    fn save(
        &self,
        session: &mut Session,
        live: &str,
        place: Option<&Schema>,
        stowed: &Stowage,
        to: &str,
    ) -> Result<&'static str, CaptureError> {
        let mut stowage = Stowage {
            character_set: stowed.character_set.clone(),
            collation: stowed.collation.clone(),
            is_absent: place.is_none(),
            original: live.to_owned(),
            ..Stowage::default()
        };
        if let Some(place) = place {
            stowage
                .character_set
                .clone_from(&place.catalogue.character_set);
            stowage.collation.clone_from(&place.catalogue.collation);
        }
        match Schema::read(session, to)? {
            Some(kept) if kept.is(PARKED) || !kept.catalogue.tables.is_empty() => {
                return Err(CaptureError::Unsuitable {
                    path: to.into(),
                    why: "already holds a database".to_owned(),
                    hint: "Sign off or undo the restore that put it there.",
                });
            }
            Some(kept) if kept.is(SAVED) => return Ok(SAVED),
            Some(kept) if kept.is(MOVED) => return Ok(MOVED),
            Some(_) => {}
            None => create(session, to, &stowage.character_set, &stowage.collation)?,
        }
        if let Some(place) = place {
            let views: Vec<&str> = place.catalogue.of_kind("view").collect();
            stowage.objects = place.catalogue.objects.keys().cloned().collect();
            stowage.text = dump::objects(&self.connection, live, &views, true)?;
        }
        stowage.put(session, to, SAVED)?;
        Ok(SAVED)
    }

    /// Runs the text that creates objects.
    pub(super) fn run_script(&self, database: &str, text: &[u8]) -> Result<(), CaptureError> {
        if text.is_empty() {
            return Ok(());
        }
        let failed = || {
            CaptureError::library(format!(
                "create triggers, views, routines and events in {database:?}"
            ))
        };
        let mut running = self.connection.script(database).map_err(failed())?;
        let mut stdin = running.stdin();
        let written = stdin.write_all(text);
        drop(stdin);
        if let Err(error) = written {
            return Err(failed()(running.broken("write to", error)));
        }
        running.finish().map_err(failed())
    }

    /// Gives accounts that were created for the database what they had, and returns what could not be given.
    fn give(&self, grants: Vec<String>) -> Result<Vec<String>, CaptureError> {
        if grants.is_empty() {
            return Ok(grants);
        }
        let mut session = self.session()?;
        let mut left = Vec::new();
        for grant in grants {
            if session.execute(&grant).is_err() {
                session = self.session()?;
                left.push(grant);
            }
        }
        Ok(left)
    }

    /// Creates the objects whose text is in `from` in the live schema.
    fn load_objects(
        &self,
        session: &mut Session,
        live: &str,
        from: &str,
    ) -> Result<(), CaptureError> {
        let stowed = Stowage::get(session, from, MOVED)?;
        let place = Schema::read(session, live)?;
        if stowed.is_absent {
            return match place {
                Some(place) if !place.is_empty() => Err(CaptureError::Unsuitable {
                    path: live.into(),
                    why: "was not there before the restore, and has got tables or objects since"
                        .to_owned(),
                    hint: "Drop it when nobody needs it, then run the command again.",
                }),
                // By this session: another one would wait for the locks of this one.
                Some(_) => session
                    .execute(&format!("DROP DATABASE IF EXISTS {}", sql::name(live)))
                    .map_err(asked("drop the database that was not there before")),
                None => Ok(()),
            };
        }
        let Some(place) = place else {
            return Err(CaptureError::Unsuitable {
                path: live.into(),
                why: "is gone, and with it the tables that were just moved there".to_owned(),
                hint: "Restore the database anew.",
            });
        };
        // What an interrupted load of the text left.
        drop_objects(session, live, &place.catalogue)?;
        session
            .execute(&format!(
                "ALTER DATABASE {} CHARACTER SET {} COLLATE {}",
                sql::name(live),
                sql::name(&stowed.character_set),
                sql::name(&stowed.collation)
            ))
            .map_err(asked(&format!("set the character set of {live:?}")))?;
        repoint(session, live, from)?;
        // A view needs its definer's rights, also on routines, when it is created; a routine must be there before rights on it.
        let (code, views) = stowage::code_and_views(&stowed.text);
        let grants = stowed.grants.iter();
        let grants = grants.map(|grant| accounts::renamed(grant, &stowed.original, live));
        let left = self.give(grants.collect())?;
        self.run_script(live, code)?;
        let left = self.give(left)?;
        self.run_script(live, views)?;
        for grant in self.give(left)? {
            tracing::warn!(grant, "could not be given back");
        }
        let is_there = |session: &mut Session| -> Result<Vec<String>, CaptureError> {
            let there = Schema::read(session, live)?;
            let objects = there
                .map(|there| there.catalogue.objects)
                .unwrap_or_default();
            let missing = stowed.objects.iter();
            Ok(missing
                .filter(|object| !objects.contains_key(*object))
                .cloned()
                .collect())
        };
        let missing = is_there(session)?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(CaptureError::Unsuitable {
            path: live.into(),
            why: format!("lacks {} after their text was loaded", missing.join(", ")),
            hint: "Look at the server's log, then run the command again.",
        })
    }
}

/// An error where something is live that this exchange did not make: its own is empty, and `to` says that there was none before.
fn refuse_live(session: &mut Session, live: &str, to: &str) -> Result<(), CaptureError> {
    let Some(place) = Schema::read(session, live)? else {
        return Ok(());
    };
    if place.is_empty()
        && let Some(kept) = Schema::read(session, to)?
        && let Some(state) = kept.states.iter().find(|state| **state != PARKED)
        && Stowage::get(session, to, state)?.is_absent
    {
        return Ok(());
    }
    Err(CaptureError::Unsuitable {
        path: live.into(),
        why: "is there now, and was not when the restore was planned".to_owned(),
        hint: "Look at it. Move its tables away, drop it and resume the restore, or undo the restore and plan again.",
    })
}

/// Drops all objects that a catalogue of `schema` names.
pub(super) fn drop_objects(
    session: &mut Session,
    schema: &str,
    catalogue: &Catalogue,
) -> Result<(), CaptureError> {
    for object in catalogue.objects.keys() {
        let Some((kind, name)) = object.split_once(' ') else {
            continue;
        };
        let kind = kind.to_ascii_uppercase();
        session
            .execute(&format!(
                "DROP {kind} IF EXISTS {}.{}",
                sql::name(schema),
                sql::name(name)
            ))
            .map_err(asked(&format!("drop the {object} of {schema:?}")))?;
    }
    Ok(())
}
