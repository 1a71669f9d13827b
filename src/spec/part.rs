//! A part of what a database server holds, as a person names it: a database, or tables of it.

use super::Source;

/// A database, or tables of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub database: String,
    /// Its tables; all of the database where there are none. Of PostgreSQL, `schema.table`, or a table of the schema `public`.
    pub tables: Vec<String>,
}

impl Part {
    /// The parts that `paths` name, each `DATABASE` or `DATABASE/TABLE`: one for each database, in the order in which they are
    /// first named.
    ///
    /// # Errors
    /// The path that names none.
    pub fn of(paths: &[String]) -> Result<Vec<Part>, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut whole = Vec::new();
        for path in paths {
            let (database, table) = match path.split_once('/') {
                Some((database, table)) => (database, Some(table)),
                None => (path.as_str(), None),
            };
            if database.is_empty() || table.is_some_and(str::is_empty) {
                return Err(path.clone());
            }
            let part = match parts.iter().position(|part| part.database == database) {
                Some(known) => &mut parts[known],
                None => {
                    parts.push(Part { database: database.to_owned(), tables: Vec::new() });
                    let last = parts.len() - 1;
                    &mut parts[last]
                }
            };
            match table {
                Some(table) if !part.tables.iter().any(|known| known == table) => {
                    part.tables.push(table.to_owned());
                }
                Some(_) => {}
                None => whole.push(database.to_owned()),
            }
        }
        for part in parts.iter_mut().filter(|part| whole.contains(&part.database)) {
            part.tables.clear();
        }
        Ok(parts)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.tables.as_slice() {
            [] => write!(f, "database {}", self.database),
            tables => write!(f, "{} of database {}", tables.join(", "), self.database),
        }
    }
}

impl Source {
    /// Whether what is captured are databases, of which one, or tables of one, can be restored by itself: what was captured is
    /// brought back into a private server, and dumped from there.
    pub fn has_databases(&self) -> bool {
        matches!(self, Source::Mysql(_) | Source::Postgres(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(paths: &[&str]) -> Result<Vec<(String, Vec<String>)>, String> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let parts = Part::of(&paths)?;
        Ok(parts.into_iter().map(|part| (part.database, part.tables)).collect())
    }

    #[test]
    fn paths_name_databases_and_tables_of_them() {
        let part = |database: &str, tables: &[&str]| {
            (database.to_owned(), tables.iter().map(|table| (*table).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(parts(&["shop"]), Ok(vec![part("shop", &[])]));
        assert_eq!(
            parts(&["shop/sale", "other/t", "shop/total", "shop/sale"]),
            Ok(vec![part("shop", &["sale", "total"]), part("other", &["t"])])
        );
        assert_eq!(parts(&["shop/sale", "shop"]), Ok(vec![part("shop", &[])]), "all of it holds the table");
        assert_eq!(parts(&["shop/a/b"]), Ok(vec![part("shop", &["a/b"])]));
        for nothing in ["", "/sale", "shop/"] {
            assert_eq!(parts(&[nothing]), Err(nothing.to_owned()));
        }
    }
}
