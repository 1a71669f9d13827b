//! Where a restore puts the collections of an archive, until it is whole: aside, or in a new database. What was written while the
//! archive was made is done to them there, whatever their names will be.
//!
//! A collection that is not known here while something is done to it was gone when the archive's catalogue was made, and what is
//! done to it counts for nothing: the one that has its name now, if any, is another, which its UUID tells where there is one.

use std::collections::BTreeMap;

use bson::{Document, doc};

use super::{
    COMMAND, Failure,
    access::Access,
    answer,
    metadata::{Collection, portable},
    oplog::{Changes, Operation, Replaced},
};

/// What the names of collections begin with that a restore makes aside.
const ASIDE: &str = "backstay_restore_";

/// The names of a database and of a collection in it.
pub(super) type Namespace = (String, String);

/// The collections that a restore made.
pub(super) struct Targets {
    home: Home,
    /// What the names aside begin with.
    pub stem: String,
    /// Every collection that was made, also those that were dropped again.
    made: Vec<Namespace>,
    /// By the names that they have in the archive, or were given since.
    live: BTreeMap<Namespace, Target>,
}

/// Whose collections they become.
pub(super) enum Home {
    /// The databases' that the archive tells.
    Original,
    /// A new database's.
    New(String),
}

struct Target {
    /// Where it is now.
    place: Namespace,
    uuid: Option<String>,
    /// Those that it is to have, but the one that comes with it.
    indexes: Vec<Document>,
}

impl Targets {
    pub fn new(home: Home) -> Self {
        let stem = format!("{ASIDE}{:08x}", rand::random::<u32>());
        Self { home, stem, made: Vec::new(), live: BTreeMap::new() }
    }

    /// Makes the place of a collection of the archive.
    pub async fn make(&mut self, access: &Access, collection: &Collection) -> Result<(), Failure> {
        let place = match &self.home {
            Home::Original => self.aside(&collection.database),
            Home::New(database) => (database.clone(), collection.name.clone()),
        };
        run(access, &place.0, collection.create(&place.1)).await?;
        self.made.push(place.clone());
        let target = Target { place, uuid: collection.uuid.clone(), indexes: collection.own_indexes() };
        self.live.insert(namespace(collection), target);
        Ok(())
    }

    /// Makes a view of the archive, whose name nothing has by now.
    pub async fn make_view(&mut self, access: &Access, view: &Collection) -> Result<(), Failure> {
        let (database, name) = self.destination(&namespace(view));
        run(access, &database, view.create(&name)).await?;
        self.made.push((database, name));
        Ok(())
    }

    /// Refuses a view whose name a collection of the archive got while that was made: one of them would be lost.
    pub fn must_leave_name_to(&self, view: &Collection) -> Result<(), Failure> {
        match self.live.contains_key(&namespace(view)) {
            false => Ok(()),
            true => Err(Failure::Refused(format!(
                "{} is a view in the archive, and became a collection while that was made; restore another full",
                view.name()
            ))),
        }
    }

    /// Where a collection of the archive is.
    pub fn place(&self, collection: &Collection) -> Option<&Namespace> {
        self.live.get(&namespace(collection)).map(|target| &target.place)
    }

    /// Does what was done while the archive was made. `length` is that of the entry that tells it, bytes.
    pub async fn apply(
        &mut self,
        access: &Access,
        operation: Operation,
        changes: &mut Changes,
        length: usize,
    ) -> Result<(), Failure> {
        if let Operation::Change { namespace, collection, change } = operation {
            let Some(target) = self.live.get(&namespace).filter(|it| it.is(collection.as_deref())) else {
                return Ok(());
            };
            return changes.add(access, target.place.clone(), change, length).await;
        }
        changes.send(access).await?;
        match operation {
            Operation::Create { namespace, collection, options } => {
                self.create(access, namespace, collection, options).await
            }
            Operation::Drop { namespace, collection } => {
                match self.live.get(&namespace).is_some_and(|it| it.is(collection.as_deref())) {
                    true => self.drop(access, &namespace).await,
                    false => Ok(()),
                }
            }
            // The archive's views are made in the end, and one that was dropped while it was made is in none.
            Operation::DropView(_) => Ok(()),
            Operation::DropDatabase(database) => {
                let all: Vec<Namespace> = self.live.keys().filter(|it| it.0 == database).cloned().collect();
                for namespace in all {
                    self.drop(access, &namespace).await?;
                }
                Ok(())
            }
            Operation::Rename { from, to, collection, replaced } => {
                self.rename(access, (from, to), collection.as_deref(), replaced).await
            }
            other => self.change_indexes(other),
        }
    }

    async fn create(
        &mut self,
        access: &Access,
        namespace: Namespace,
        uuid: Option<String>,
        options: Document,
    ) -> Result<(), Failure> {
        // The archive's catalogue tells it as well where it was made just before.
        if self.live.contains_key(&namespace) {
            return Ok(());
        }
        let place = match &self.home {
            Home::Original => self.aside(&namespace.0),
            Home::New(database) => self.aside(&database.clone()),
        };
        let mut command = doc! { "create": &place.1 };
        command.extend(options.into_iter().filter(|(key, _)| key != "autoIndexId"));
        run(access, &place.0, command).await?;
        self.made.push(place.clone());
        self.live.insert(namespace, Target { place, uuid, indexes: Vec::new() });
        Ok(())
    }

    async fn drop(&mut self, access: &Access, namespace: &Namespace) -> Result<(), Failure> {
        match self.live.remove(namespace) {
            Some(target) => drop_collection(access, &target.place).await,
            None => Ok(()),
        }
    }

    async fn rename(
        &mut self,
        access: &Access,
        (from, to): (Namespace, Namespace),
        uuid: Option<&str>,
        replaced: Replaced,
    ) -> Result<(), Failure> {
        if !self.live.get(&from).is_some_and(|it| it.is(uuid)) {
            return Ok(());
        }
        match replaced {
            Replaced::Dropped => self.drop(access, &to).await?,
            Replaced::Nothing if self.live.contains_key(&to) => {
                return Err(Failure::Answer(format!(
                    "{}.{} was renamed to a name that is taken",
                    from.0, from.1
                )));
            }
            Replaced::Nothing => {}
        }
        if let Some(target) = self.live.remove(&from) {
            self.live.insert(to, target);
        }
        Ok(())
    }

    fn change_indexes(&mut self, operation: Operation) -> Result<(), Failure> {
        let name = |index: &Document| index.get_str("name").map(str::to_owned).unwrap_or_default();
        match operation {
            Operation::CreateIndexes { namespace, collection, indexes } => {
                let target = self.live.get_mut(&namespace).filter(|it| it.is(collection.as_deref()));
                if let Some(target) = target {
                    for index in &indexes {
                        target.indexes.retain(|other| name(other) != name(index));
                        target.indexes.push(portable(index));
                    }
                }
                Ok(())
            }
            Operation::DropIndex { namespace, collection, index } => {
                let target = self.live.get_mut(&namespace).filter(|it| it.is(collection.as_deref()));
                if let Some(target) = target {
                    target.indexes.retain(|other| index != "*" && name(other) != index);
                }
                Ok(())
            }
            other => {
                Err(Failure::Refused(format!("{other:?} can't be done to what is not in its place yet")))
            }
        }
    }

    /// Builds the indexes: documents may only be alike in the end.
    pub async fn build_indexes(&self, access: &Access) -> Result<(), Failure> {
        for target in self.live.values().filter(|target| !target.indexes.is_empty()) {
            let command = doc! { "createIndexes": &target.place.1, "indexes": &target.indexes };
            run(access, &target.place.0, command).await?;
        }
        Ok(())
    }

    /// Gives everything its name. What has it now is dropped just before.
    pub async fn take_places(&mut self, access: &Access) -> Result<(), Failure> {
        self.leave_names_of_others(access).await?;
        for (namespace, target) in &self.live {
            let destination = self.destination(namespace);
            if destination != target.place {
                drop_collection(access, &destination).await?;
                rename_collection(access, &target.place, &destination).await?;
                self.made.push(destination);
            }
        }
        Ok(())
    }

    /// In a new database a collection may stand where another is to be.
    async fn leave_names_of_others(&mut self, access: &Access) -> Result<(), Failure> {
        let misplaced = |(namespace, target): (&Namespace, &Target)| {
            (self.destination(namespace) != target.place && !target.place.1.starts_with(&self.stem))
                .then(|| namespace.clone())
        };
        let misplaced: Vec<Namespace> = self.live.iter().filter_map(misplaced).collect();
        for namespace in misplaced {
            let aside = self.aside(&self.destination(&namespace).0);
            if let Some(target) = self.live.get_mut(&namespace) {
                rename_collection(access, &target.place, &aside).await?;
                self.made.push(aside.clone());
                target.place = aside;
            }
        }
        Ok(())
    }

    /// Removes what was made, as far as that can be. The failure that made it useless is the one to tell.
    pub async fn remove(&self, access: &Access) {
        for place in &self.made {
            let _ = drop_collection(access, place).await;
        }
    }

    fn destination(&self, namespace: &Namespace) -> Namespace {
        match &self.home {
            Home::Original => namespace.clone(),
            Home::New(database) => (database.clone(), namespace.1.clone()),
        }
    }

    /// A name that nothing has.
    fn aside(&self, database: &str) -> Namespace {
        (database.to_owned(), format!("{}_{}", self.stem, self.made.len()))
    }
}

impl Target {
    /// Whether it is the collection with this UUID, as far as both are told.
    fn is(&self, uuid: Option<&str>) -> bool {
        self.uuid.as_deref().zip(uuid).is_none_or(|(own, told)| own == told)
    }
}

fn namespace(collection: &Collection) -> Namespace {
    (collection.database.clone(), collection.name.clone())
}

async fn rename_collection(access: &Access, from: &Namespace, to: &Namespace) -> Result<(), Failure> {
    let (from, to) = (format!("{}.{}", from.0, from.1), format!("{}.{}", to.0, to.1));
    run(access, "admin", doc! { "renameCollection": from, "to": to }).await
}

/// Drops a collection or view, if it is there.
pub(super) async fn drop_collection(access: &Access, (database, name): &Namespace) -> Result<(), Failure> {
    answer(COMMAND, access.database(database).collection::<Document>(name).drop()).await
}

/// Runs a command of which only success counts.
pub(super) async fn run(access: &Access, database: &str, command: Document) -> Result<(), Failure> {
    answer(COMMAND, access.database(database).run_command(command)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Shape;
    use super::*;

    #[test]
    fn a_collection_that_took_a_views_name_is_not_replaced_by_the_view() {
        let of = |name: &str, shape| Collection {
            database: "shop".to_owned(),
            name: name.to_owned(),
            options: Document::new(),
            uuid: None,
            shape,
        };
        let place = ("shop".to_owned(), "aside".to_owned());
        let mut targets = Targets::new(Home::Original);
        let documents = of("a", Shape::Documents { indexes: Vec::new() });
        targets.live.insert(namespace(&documents), Target { place, uuid: None, indexes: Vec::new() });
        assert!(matches!(targets.must_leave_name_to(&of("a", Shape::View)), Err(Failure::Refused(_))));
        assert!(targets.must_leave_name_to(&of("b", Shape::View)).is_ok());
    }
}
