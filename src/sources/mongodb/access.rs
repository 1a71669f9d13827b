//! How a server is reached, and what it is.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::{
    Client, Database,
    options::{ClientOptions, Credential, ServerAddress, Tls, TlsOptions},
};

use super::{ANSWER, Failure, answer};
use crate::{
    secrets::Secret,
    spec::{self, Mongodb},
};

/// How long a server may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Access to one server.
#[derive(Debug)]
pub(super) struct Access {
    client: Client,
    /// As declared; empty means all but the engine's own.
    pub databases: Vec<String>,
    pub version: Version,
}

/// What a server says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The version of MongoDB that it is, or behaves as.
    pub mongodb: String,
    /// The version of FerretDB, where it is one.
    ferretdb: Option<String>,
}

impl Version {
    fn read(build: &Document) -> Result<Self, Failure> {
        let mongodb = build.get_str("version");
        let mongodb = mongodb.map_err(|_| Failure::Answer("the server tells no version".to_owned()))?;
        let ferretdb = build.get_str("ferretdbVersion").ok().map(str::to_owned);
        Ok(Self { mongodb: mongodb.to_owned(), ferretdb })
    }

    /// Major and minor number of the version of MongoDB; `None` where it is none, or tells no numbers.
    pub fn release(&self) -> Option<(u32, u32)> {
        if self.ferretdb.is_some() {
            return None;
        }
        let mut numbers = self.mongodb.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    pub fn for_people(&self) -> String {
        match &self.ferretdb {
            Some(version) => format!("FerretDB {version}, as MongoDB {}", self.mongodb),
            None => format!("MongoDB {}", self.mongodb),
        }
    }
}

impl Access {
    /// Reaches the server. One that only stands before a sharded cluster is refused.
    pub async fn open(mongodb: &Mongodb, password: Option<&Secret>) -> Result<Self, Failure> {
        let client = Client::with_options(options(mongodb, password))?;
        let admin = client.database("admin");
        let hello = hello(&admin).await?;
        if hello.get_str("msg").is_ok_and(|it| it == "isdbgrid") {
            let why = "it is a sharded cluster's router; the distribution of a cluster can't be captured";
            return Err(Failure::Refused(why.to_owned()));
        }
        let build = answer(ANSWER, admin.run_command(doc! { "buildInfo": 1 })).await?;
        Ok(Self { client, databases: mongodb.server.databases.clone(), version: Version::read(&build)? })
    }

    /// What it says of itself and its replica set now.
    pub async fn hello(&self) -> Result<Document, Failure> {
        hello(&self.database("admin")).await
    }

    /// Whether its oplog tells of collections and indexes, not of documents only; and whether it takes what an oplog tells. So it
    /// is with MongoDB.
    pub fn tells_commands(&self) -> bool {
        self.version.ferretdb.is_none()
    }

    pub fn database(&self, name: &str) -> Database {
        self.client.database(name)
    }
}

async fn hello(admin: &Database) -> Result<Document, Failure> {
    answer(ANSWER, admin.run_command(doc! { "hello": 1 })).await
}

/// Exactly the declared server is asked, whatever it says of others.
fn options(mongodb: &Mongodb, password: Option<&Secret>) -> ClientOptions {
    let server = &mongodb.server;
    let address = match &server.socket {
        Some(path) => ServerAddress::Unix { path: path.clone() },
        None => ServerAddress::Tcp { host: server.host.clone(), port: server.port },
    };
    let credential = server.user.as_ref().map(|user| {
        let named = Credential::builder().username(user.clone()).source(mongodb.auth_database.clone());
        named.password(password.map(|password| password.expose().to_owned())).build()
    });
    let tls = match &server.tls {
        spec::Tls::Verified { ca } => {
            Some(Tls::Enabled(TlsOptions::builder().ca_file_path(ca.clone()).build()))
        }
        spec::Tls::Default => None,
    };
    ClientOptions::builder()
        .hosts(vec![address])
        .direct_connection(true)
        .app_name("backstay".to_owned())
        .credential(credential)
        .tls(tls)
        .connect_timeout(CONNECT_PATIENCE)
        .server_selection_timeout(CONNECT_PATIENCE)
        // What is read or written twice is not what was asked for.
        .retry_reads(false)
        .retry_writes(false)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_for_what_it_is() {
        let version = |build| Version::read(&build).unwrap().for_people();
        assert_eq!(version(doc! { "version": "7.0.5" }), "MongoDB 7.0.5");
        let ferret = doc! { "version": "7.0.42", "ferretdbVersion": "v1.24.2" };
        assert_eq!(version(ferret.clone()), "FerretDB v1.24.2, as MongoDB 7.0.42");
        assert!(Version::read(&doc! {}).is_err());
        let release = |version: &str| Version::read(&doc! { "version": version }).unwrap().release();
        assert_eq!(release("6.0.14-rc1"), Some((6, 0)));
        assert_eq!((release("7"), release("x.1")), (None, None));
        assert_eq!(Version::read(&ferret).unwrap().release(), None);
    }
}
