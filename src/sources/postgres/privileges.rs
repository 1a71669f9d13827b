//! What a role lacks for a capture, with the statement that grants exactly that.

use super::{
    ANSWER, Failure,
    access::Access,
    physical,
    session::{Identity, MAINTENANCE, Session},
};

/// The first version that has `pg_read_all_data`.
const READ_ALL_DATA: u32 = 14;

/// Relations that a dump reads and this role may not, and all that it reads.
const UNREADABLE: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'm', 'p', 'S') AND c.relpersistence <> 't' \
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND NOT (pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')) \
    ORDER BY 1";

/// Whether each declared database can be dumped. Returns who the server is.
pub(super) async fn for_logical(access: &Access) -> Result<Identity, Failure> {
    let first = access.databases.first().map_or(MAINTENANCE, String::as_str);
    let mut session = Session::open(access, first, ANSWER).await?;
    let server = Identity::ask(&mut session).await?;
    access.installed.for_server(server.major)?;
    readable(&mut session, &server, first).await?;
    for database in access.databases.iter().skip(1) {
        readable(&mut Session::open(access, database, ANSWER).await?, &server, database).await?;
    }
    Ok(server)
}

async fn readable(session: &mut Session, server: &Identity, database: &str) -> Result<(), Failure> {
    let unreadable = session.values(UNREADABLE).await?;
    let Some(first) = unreadable.first() else { return Ok(()) };
    let role = &server.role;
    let others = match unreadable.len() - 1 {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    Err(Failure::Privilege {
        lacks: format!("role {role} may not read {first}{others} in database {database}"),
        grant: reading(server.major, role),
    })
}

fn reading(major: u32, role: &str) -> String {
    if major >= READ_ALL_DATA {
        format!("GRANT pg_read_all_data TO {role};")
    } else {
        format!(
            "in each database and schema: GRANT USAGE ON SCHEMA … TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA … TO {role}; \
             GRANT SELECT ON ALL SEQUENCES IN SCHEMA … TO {role};"
        )
    }
}

/// Whether the cluster can be copied. Returns who the server is.
pub(super) async fn for_physical(access: &Access) -> Result<Identity, Failure> {
    let mut session = Session::open(access, MAINTENANCE, ANSWER).await?;
    let server = Identity::ask(&mut session).await?;
    access.installed.for_server(server.major)?;
    physical::must_fit(&mut session, &server).await?;
    let sql = "SELECT rolreplication OR rolsuper, pg_catalog.current_setting('wal_level'), \
               pg_catalog.current_setting('max_wal_senders') FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let [may_replicate, wal_level, senders] = session.row(sql).await?;
    if may_replicate != "t" {
        let role = &server.role;
        return Err(Failure::Privilege {
            lacks: format!("role {role} may not copy the cluster"),
            grant: format!("ALTER ROLE {role} REPLICATION;"),
        });
    }
    // Without them, the server's log can't be copied along.
    if wal_level == "minimal" || senders == "0" {
        return Err(Failure::Setting {
            found: format!("the server runs with wal_level = {wal_level}, max_wal_senders = {senders}"),
            set: "set wal_level = replica and max_wal_senders = 10, and restart it".to_owned(),
        });
    }
    Ok(server)
}
