//! Loads: round trips, and loads that fail.

use super::*;

#[track_caller]
fn assert_no_job(cluster: &Cluster) {
    let count = cluster.psql("new", "SELECT count(*) FROM jobs");
    assert_eq!(count.expect("a count"), "0\n");
}

#[test]
fn each_test_database_comes_back_under_another_name() {
    let cluster = cluster();
    let server = server(&cluster);
    for (name, script) in [
        ("certctl", fixtures::postgresql_certctl(fixtures::FEW)),
        ("akamu", fixtures::postgresql_akamu(fixtures::FEW)),
        ("shapes", fixtures::POSTGRESQL_SHAPES.to_owned()),
    ] {
        with_fixture(&cluster, name, &script);
        let captured = capture(&cluster, name);
        let new = format!("strongroom-2026-1-{name}-new");
        let notes = captured.load_well(&server, &new, &LoadOptions::default());
        assert!(notes.is_empty(), "{name}: {notes:?}");
        captured.prove_well(&server, &new, &LoadOptions::default());
        assert_same(&cluster, name, &new);
        // Again: what is there is dropped first.
        captured.comes_back(&server, &new, &LoadOptions::default());
        assert!(server.has(name).expect("an answer"));
    }
}

#[test]
fn text_that_is_not_utf_8_comes_back() {
    let cluster = cluster();
    cluster
        .psql("postgres", fixtures::POSTGRESQL_LATIN1_DATABASE)
        .expect("a database");
    cluster
        .psql("old_ca", fixtures::POSTGRESQL_LATIN1)
        .expect("the fixture");
    let (server, captured) = (server(&cluster), capture(&cluster, "old_ca"));
    captured.comes_back(&server, "new", &LoadOptions::default());
    assert_same(&cluster, "old_ca", "new");
}

#[test]
fn roles_that_are_missing_are_made_without_passwords() {
    let captured = certctl(&cluster());
    let cluster = cluster();
    let server = server(&cluster);
    let options = LoadOptions::default();
    let wanted = WantedDatabase {
        original: "certctl",
        name: "certctl",
        facts: &captured.facts,
        options: &options,
    };
    let seen = server.observe(&[wanted]).expect("a look");
    assert!(seen.refusals.is_empty(), "{:?}", seen.refusals);
    assert!(seen.databases.is_empty() && seen.server.starts_with("PostgreSQL "));
    assert!(
        seen.warnings[0].contains("certctl_app"),
        "{:?}",
        seen.warnings
    );
    let notes = captured.load_well(&server, "certctl", &LoadOptions::default());
    assert!(notes[0].contains("certctl_app"), "{notes:?}");
    captured.prove_well(&server, "certctl", &options);
    let roles = "SELECT rolname, rolcanlogin, rolconnlimit, rolpassword IS NULL FROM pg_authid \
        WHERE rolname LIKE 'certctl%' ORDER BY 1";
    assert_eq!(
        cluster.psql("postgres", roles).expect("an answer"),
        "certctl_app|t|-1|t\ncertctl_auditor|t|3|t\ncertctl_owner|f|-1|t\n"
    );
    let seen = server.observe(&[wanted]).expect("a look");
    assert!(seen.warnings.is_empty(), "{:?}", seen.warnings);
    assert!(seen.databases["certctl"].size_bytes > 0);
}

#[test]
fn other_roles_take_the_place_of_those_of_the_backup() {
    let captured = certctl(&cluster());
    let cluster = cluster();
    let script = "CREATE ROLE svc; CREATE ROLE \"Own er\"; CREATE ROLE certctl_auditor";
    cluster.psql("postgres", script).expect("roles");
    let server = server(&cluster);
    let roles = [("certctl_app", "svc"), ("certctl_owner", "Own er")];
    let options = LoadOptions {
        roles: roles
            .map(|(was, is)| (was.to_owned(), is.to_owned()))
            .into(),
        ..LoadOptions::default()
    };
    captured.comes_back(&server, "new", &options);
    let text = dump(&cluster, "new");
    for line in text.lines().filter(|line| {
        ["GRANT ", "REVOKE ", "ALTER "]
            .iter()
            .any(|word| line.starts_with(word))
    }) {
        assert!(
            !line.contains("certctl_app") && !line.contains("certctl_owner"),
            "{line}"
        );
    }
    assert!(text.contains("TO svc;") && text.contains("OWNER TO \"Own er\";"));
}

#[test]
fn content_that_fails_at_its_end_leaves_no_row() {
    let cluster = cluster();
    let (captured, server) = (certctl(&cluster), server(&cluster));
    let spoiled = |stream: &Stream, _: &mut dyn Write| {
        if stream.path.ends_with("data/public.jobs.copy") {
            return Err(CaptureError::Unsuitable {
                path: "a stream".into(),
                why: "other content".to_owned(),
                hint: "none",
            });
        }
        Ok(())
    };
    let error = captured
        .load(&server, "new", &LoadOptions::default(), &spoiled)
        .expect_err("the content fails");
    assert!(error_chain(&error).contains("other content"), "{error}");
    assert_no_job(&cluster);
    for (more, said) in [
        (&b"1\n"[..], "missing data"),
        (b"\\.\nDROP TABLE jobs;\n", "comes a command"),
        (b"x", "have no end"),
    ] {
        let spoiled = |stream: &Stream, to: &mut dyn Write| {
            if stream.path.ends_with("data/public.jobs.copy") {
                to.write_all(more).map_err(CaptureError::library("write"))?;
            }
            Ok(())
        };
        let error = captured
            .load(&server, "new", &LoadOptions::default(), &spoiled)
            .expect_err("the content is wrong");
        assert!(
            error_chain(&error).contains(said),
            "{}",
            error_chain(&error)
        );
        assert_no_job(&cluster);
    }
    captured.load_well(&server, "new", &LoadOptions::default());
}

#[test]
fn rows_that_are_missing_or_double_are_found_out() {
    let cluster = cluster();
    let (mut captured, server) = (certctl(&cluster), server(&cluster));
    let tables = &mut captured.facts["databases"]["certctl"]["tables"];
    let rows = tables["public.jobs"]["rows"].as_u64().expect("rows");
    tables["public.jobs"]["rows"] = (rows + 1).into();
    let error = captured
        .load(&server, "new", &LoadOptions::default(), &|_, _| Ok(()))
        .expect_err("a row is missing");
    assert!(error.to_string().contains("rows were captured"), "{error}");
    captured.facts["databases"]["certctl"]["tables"]["public.jobs"]["rows"] = rows.into();
    captured.load_well(&server, "new", &LoadOptions::default());
    let script = "UPDATE jobs SET status = status || 'x' WHERE id = (SELECT min(id) FROM jobs); \
        DELETE FROM session_signing_keys; SELECT setval('certificate_versions_id_seq', 7); \
        ALTER DATABASE new SET work_mem = '5MB'; GRANT ALL ON DATABASE new TO certctl_app";
    cluster
        .psql("new", &format!("SET session_replication_role = replica; ALTER TABLE jobs DROP CONSTRAINT IF EXISTS jobs_status_check; {script}"))
        .expect("changes");
    let proof = captured.prove(&server, "new", &LoadOptions::default());
    let failures = proof.failures.join("\n");
    for what in [
        "public.jobs",
        "session_signing_keys",
        "certificate_versions_id_seq",
        "the settings",
        "the privileges",
    ] {
        assert!(failures.contains(what), "{what}: {failures}");
    }
    assert_eq!(proof.failures.len(), 5, "{failures}");
}

#[test]
fn single_tables_come_without_what_needs_others() {
    let cluster = cluster();
    let (captured, server) = (certctl(&cluster), server(&cluster));
    let options = LoadOptions {
        tables: [
            "certificate_revocations".to_owned(),
            "public.jobs".to_owned(),
        ]
        .into(),
        ..LoadOptions::default()
    };
    captured.comes_back(&server, "scratch", &options);
    let script = "SELECT (SELECT count(*) FROM certificate_revocations) > 0, (SELECT count(*) FROM issuers), \
        (SELECT count(*) FROM pg_constraint WHERE contype = 'f'), (SELECT count(*) FROM pg_constraint WHERE contype = 'p') > 0";
    assert_eq!(
        cluster.psql("scratch", script).expect("an answer"),
        "t|0|0|t\n"
    );
}

#[test]
fn a_server_that_dies_while_loading_costs_a_load() {
    let cluster = Mutex::new(cluster());
    let captured = certctl(&cluster.lock().expect("a cluster"));
    let server = server(&cluster.lock().expect("a cluster"));
    let dies = |stream: &Stream, _: &mut dyn Write| {
        if stream.path.ends_with("data/public.jobs.copy") {
            cluster.lock().expect("a cluster").kill();
        }
        Ok(())
    };
    captured
        .load(&server, "new", &LoadOptions::default(), &dies)
        .expect_err("the server is dead");
    cluster
        .lock()
        .expect("a cluster")
        .restart()
        .expect("a restart");
    captured.comes_back(&server, "new", &LoadOptions::default());
}

#[test]
fn a_connection_that_is_lost_in_a_table_costs_a_load() {
    let cluster = cluster();
    let (captured, server) = (certctl(&cluster), server(&cluster));
    let cut = |stream: &Stream, to: &mut dyn Write| {
        if stream.path.ends_with("data/public.jobs.copy") {
            let script = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
                WHERE datname = 'new' AND query LIKE 'COPY \"public\".\"jobs\"%'";
            assert_eq!(cluster.psql("postgres", script).expect("ended"), "1\n");
            to.write_all(b"1\n")
                .map_err(CaptureError::library("write"))?;
        }
        Ok(())
    };
    let error = captured
        .load(&server, "new", &LoadOptions::default(), &cut)
        .expect_err("the connection is lost");
    assert!(
        error_chain(&error).contains("psql failed"),
        "{}",
        error_chain(&error)
    );
    assert_no_job(&cluster);
    captured.load_well(&server, "new", &LoadOptions::default());
}

#[test]
fn programs_that_run_elsewhere_get_all_by_their_input() {
    let cluster = cluster();
    let captured = certctl(&cluster);
    let mut connection = connection(&cluster, "postgres");
    connection.settings.via = vec!["env".to_owned()];
    let server = PostgresqlServer::new(connection);
    captured.comes_back(&server, "new", &LoadOptions::default());
    assert_same(&cluster, "certctl", "new");
}

#[test]
fn an_ordinary_role_restores_what_it_may() {
    let captured = certctl(&cluster());
    let cluster = cluster();
    let script = "CREATE ROLE plain LOGIN; CREATE ROLE keeper LOGIN CREATEDB CREATEROLE";
    cluster.psql("postgres", script).expect("roles");
    let options = LoadOptions {
        roles: [("postgres".to_owned(), "keeper".to_owned())].into(),
        ..LoadOptions::default()
    };
    let wanted = WantedDatabase {
        original: "certctl",
        name: "certctl",
        facts: &captured.facts,
        options: &options,
    };
    let as_role = |role: &str| {
        let url = PostgresqlUrl::parse(&cluster.url_as("postgres", role)).expect("a URL");
        let mut connection = connection(&cluster, "postgres");
        connection.settings.url = Some(url);
        PostgresqlServer::new(connection)
    };
    let refused = as_role("plain")
        .observe(&[wanted])
        .expect("a look")
        .refusals;
    let refused = refused.join("\n");
    for what in ["may not make databases", "may not make any"] {
        assert!(refused.contains(what), "{what}: {refused}");
    }
    let server = as_role("keeper");
    let seen = server.observe(&[wanted]).expect("a look");
    assert!(seen.refusals.is_empty(), "{:?}", seen.refusals);
    captured.comes_back(&server, "certctl", &options);
    server.drop_database("certctl").expect("dropped");
}

#[test]
fn what_a_server_lacks_is_refused() {
    let cluster = cluster();
    let (mut captured, server) = (certctl(&cluster), server(&cluster));
    let of = &mut captured.facts["databases"]["certctl"];
    of["tablespace"] = "fast".into();
    of["collate"] = "xx_NOWHERE.UTF-8".into();
    of["extensions"]["no_such"] = serde_json::json!({ "version": "1.0", "schema": "public" });
    of["extensions"]["pgcrypto"]["version"] = "0.1".into();
    captured.facts["server"]["version_num"] = 990_000.into();
    let options = LoadOptions {
        tables: ["nothing".to_owned()].into(),
        roles: [("certctl_app".to_owned(), "nobody".to_owned())].into(),
        ..LoadOptions::default()
    };
    let name = "x".repeat(64);
    let wanted = WantedDatabase {
        original: "certctl",
        name: &name,
        facts: &captured.facts,
        options: &options,
    };
    let seen = server.observe(&[wanted]).expect("a look");
    let refused = seen.refusals.join("\n");
    for what in [
        "64 bytes",
        "PostgreSQL 99",
        "locale",
        "no_such",
        "\"fast\"",
        "nobody",
        "nothing",
    ] {
        assert!(refused.contains(what), "{what}: {refused}");
    }
    assert_eq!(seen.refusals.len(), 7, "{refused}");
    assert!(
        seen.warnings.join("\n").contains("0.1"),
        "{:?}",
        seen.warnings
    );
}
