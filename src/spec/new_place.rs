//! What a provider's own backup is restored to: a table, an instance or a cluster, by its name.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Source;

/// What a provider's own backup is restored to: `table:sessions-recovered`, `instance:customers-2`, `cluster:courses-copy`. Its name is
/// one that the provider takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NewPlace {
    kind: NewPlaceKind,
    name: String,
}

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewPlaceKind {
    /// A table of DynamoDB ("TableName" of its API's reference).
    Table,
    /// An instance of RDS ("DBInstanceIdentifier" of its API's reference).
    Instance,
    /// A cluster of MongoDB Atlas ("name" of "ClusterDescription20240805" of its Admin API).
    Cluster,
}

impl NewPlace {
    /// Reads one as `backstay restore --to` takes it.
    ///
    /// # Errors
    /// What is wrong with the text; ends the sentence "`to` is no place …: ".
    pub fn parse(text: &str) -> Result<Self, String> {
        let kinds = [NewPlaceKind::Table, NewPlaceKind::Instance, NewPlaceKind::Cluster];
        let named = kinds.into_iter().find_map(|kind| {
            Some((kind, text.strip_prefix(kind.as_str()).and_then(|rest| rest.strip_prefix(':'))?))
        });
        let (kind, name) = named.ok_or("it is none of `table:NAME`, `instance:NAME` and `cluster:NAME`")?;
        match kind.takes(name) {
            true => Ok(Self { kind, name: name.to_owned() }),
            false => Err(format!("the name of {} is {}", kind.with_article(), kind.names())),
        }
    }

    /// What kind of thing it is.
    pub fn kind(&self) -> NewPlaceKind {
        self.kind
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is what `source` is declared to be.
    pub fn is_original(&self, source: &Source) -> bool {
        match source {
            Source::Dynamodb(it) => self.name == it.table,
            Source::Rds(it) => self.name.eq_ignore_ascii_case(&it.instance),
            Source::Atlas(it) => self.name.eq_ignore_ascii_case(&it.cluster),
            _ => false,
        }
    }

    /// Where the provider of `source` has it, as far as a declaration tells: equal where two of them are one.
    pub fn within(&self, source: &Source) -> String {
        let name = match self.kind {
            NewPlaceKind::Table => self.name.clone(),
            NewPlaceKind::Instance | NewPlaceKind::Cluster => self.name.to_ascii_lowercase(),
        };
        let at = |region: &str, endpoint: &str| format!("{} {region} {endpoint} {name}", self.kind.as_str());
        match source {
            Source::Dynamodb(it) => at(&it.region, it.endpoint.as_deref().unwrap_or_default()),
            Source::Rds(it) => at(&it.region, it.endpoint.as_deref().unwrap_or_default()),
            Source::Atlas(it) => at(&it.project, &it.url),
            _ => at("", ""),
        }
    }

    /// Why the provider of `source` can't restore to it, if so.
    pub fn refusal(&self, source: &Source) -> Option<String> {
        let takes = match source {
            Source::Dynamodb(_) => NewPlaceKind::Table,
            Source::Rds(_) => NewPlaceKind::Instance,
            Source::Atlas(_) if self.kind == NewPlaceKind::Cluster && self.is_original(source) => {
                return Some("Atlas would erase the cluster that the data is of".to_owned());
            }
            Source::Atlas(_) => NewPlaceKind::Cluster,
            _ => return Some("it is no backup that a provider keeps".to_owned()),
        };
        let refused = self.kind != takes;
        refused
            .then(|| format!("its provider makes {} of it: `{}:NAME`", takes.with_article(), takes.as_str()))
    }
}

impl NewPlaceKind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            NewPlaceKind::Table => "table",
            NewPlaceKind::Instance => "instance",
            NewPlaceKind::Cluster => "cluster",
        }
    }

    fn with_article(self) -> &'static str {
        match self {
            NewPlaceKind::Table => "a table",
            NewPlaceKind::Instance => "an instance",
            NewPlaceKind::Cluster => "a cluster",
        }
    }

    fn takes(self, name: &str) -> bool {
        let plain = |extra: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
        match self {
            NewPlaceKind::Table => (3..=255).contains(&name.len()) && plain("_-."),
            NewPlaceKind::Instance => {
                let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
                (1..=63).contains(&name.len())
                    && plain("-")
                    && begins
                    && !name.ends_with('-')
                    && !name.contains("--")
            }
            NewPlaceKind::Cluster => {
                let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
                (1..=64).contains(&name.len()) && plain("-") && begins
            }
        }
    }

    fn names(self) -> &'static str {
        match self {
            NewPlaceKind::Table => "3 to 255 letters, digits, `_`, `-` and `.`",
            NewPlaceKind::Instance => {
                "1 to 63 letters, digits and single `-`, beginning with a letter and not ending in `-`"
            }
            NewPlaceKind::Cluster => "1 to 64 letters, digits and `-`, not beginning with `-`",
        }
    }
}

/// `table sessions-recovered`
impl fmt::Display for NewPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

impl TryFrom<String> for NewPlace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<NewPlace> for String {
    fn from(place: NewPlace) -> String {
        format!("{}:{}", place.kind.as_str(), place.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_restores_take_it_and_written_as_it_was_read() {
        for text in [
            "table:sessions-recovered",
            "table:a.b",
            "instance:customers-2",
            "cluster:courses-copy",
            "cluster:2",
        ] {
            let place = NewPlace::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(String::from(place.clone()), text);
            let (kind, name) = text.split_once(':').unwrap();
            assert_eq!((place.kind().as_str(), place.name()), (kind, name));
        }
    }

    #[test]
    fn a_name_that_its_provider_does_not_take_is_no_place() {
        for text in [
            "",
            "sessions",
            "database:sessions",
            "bucket:sessions",
            "table:",
            "table:ab",
            "table:a b c",
            "table:a/b/c",
            "table:a:b:c",
            "Table:sessions",
            "instance:",
            "instance:2customers",
            "instance:customers-",
            "instance:customers--2",
            "instance:customers_2",
            "cluster:-copy",
            "cluster:../copy",
        ] {
            assert!(NewPlace::parse(text).is_err(), "{text}");
        }
    }
}
