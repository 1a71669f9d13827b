//! The fleet of the demo: its files, its database, and what befalls them.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use rusqlite::Connection;

use super::{
    super::{folder::Folder, git, identity},
    stage::Stage,
};

const CONFIG: &str = include_str!("../../../templates/init/backstay.toml");

/// The example's declaration, by its paths in the infra repo.
const DECLARATION: [(&str, &str); 3] = [
    ("backup/fleet.toml", include_str!("../../../examples-repo/demo/backup/fleet.toml")),
    ("backup/stores.toml", include_str!("../../../examples-repo/demo/backup/stores.toml")),
    ("backup/data.toml", include_str!("../../../examples-repo/demo/backup/data.toml")),
];

/// The folder and the recipient that the example was written for.
const EXAMPLE_DIR: &str = "/var/lib/backstay-demo";
const EXAMPLE_RECIPIENT: &str = "age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm";

/// The fleet of the demo.
pub(super) struct Fleet {
    folder: Folder,
}

impl Fleet {
    /// Makes everything but the first commit.
    pub(super) fn make(dir: &Path) -> anyhow::Result<Self> {
        let folder = Folder::make(dir)?;
        let recipient = identity::create(&folder.path("identity.txt"))?;
        for store in ["stores/here", "stores/there"] {
            folder.folder(store)?;
        }
        for (name, text) in DOCUMENTS {
            folder.write(&format!("data/documents/{name}"), text)?;
        }
        let config = CONFIG
            .replace("{dir}", folder.root())
            .replace("{repo}", "infra.git")
            .replace("{listen}", "127.0.0.1:0")
            .replace("{recipient}", &recipient);
        folder.write("backstay.toml", &config)?;
        for (name, text) in DECLARATION {
            let text = text.replace(EXAMPLE_DIR, folder.root()).replace(EXAMPLE_RECIPIENT, &recipient);
            folder.write(&format!("infra/{name}"), &text)?;
        }
        let fleet = Self { folder };
        fleet.take_orders(1_000)?;
        git::git(
            Path::new(fleet.root()),
            &["init", "--quiet", "--bare", "--initial-branch=main", "infra.git"],
        )?;
        git::git(&fleet.folder.path("infra"), &["init", "--quiet", "--initial-branch=main"])?;
        git::git(&fleet.folder.path("infra"), &["remote", "add", "origin", &fleet.path("infra.git")])?;
        Ok(fleet)
    }

    /// The absolute folder of it all.
    pub(super) fn root(&self) -> &str {
        self.folder.root()
    }

    /// A path inside it, as an argument.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder.root())
    }

    /// The controller's configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.path("backstay.toml")
    }

    /// The folder with the declaration, in the clone that people work in.
    pub(super) fn work_tree(&self) -> String {
        self.path("infra/backup")
    }

    /// What is protected, as declared.
    pub(super) fn declaration(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.folder.path("infra/backup/data.toml"))?)
    }

    /// Commits the work tree and pushes it, as a person would; returns the commit.
    pub(super) fn commit(&self, stage: &Stage, message: &str) -> anyhow::Result<String> {
        stage.command_line(&format!("git commit --all --message '{message}' && git push"))?;
        let infra = self.folder.path("infra");
        git::commit_all(&infra, message)?;
        git::git(&infra, &["push", "--quiet", "origin", "main"])?;
        let head = Command::new("git").arg("-C").arg(&infra).args(["rev-parse", "HEAD"]).output()?;
        Ok(String::from_utf8(head.stdout)?.trim().to_owned())
    }

    /// Makes the declaration one that does not parse.
    pub(super) fn break_declaration(&self) -> anyhow::Result<()> {
        let declared = self.declaration()?;
        let broken = declared.replacen("stores = ", "store = ", 1).replacen("rpo = \"", "rpo = \"~", 1);
        ensure!(broken != declared, "the example has nothing to break");
        Ok(fs::write(self.folder.path("infra/backup/data.toml"), broken)?)
    }

    /// How many orders the shop's database has.
    pub(super) fn orders(&self) -> anyhow::Result<u64> {
        let shop = Connection::open(self.folder.path("data/shop.db"))?;
        Ok(shop.query_row("select count(*) from orders", [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// New orders come in.
    pub(super) fn take_orders(&self, number: u32) -> anyhow::Result<()> {
        let mut shop = Connection::open(self.folder.path("data/shop.db"))?;
        shop.execute_batch(
            "create table if not exists orders (id integer primary key, dish text, price integer)",
        )?;
        let change = shop.transaction()?;
        for i in 0..number {
            let dish = ["margherita", "ramen", "falafel", "pho"][i as usize % 4];
            change.execute("insert into orders (dish, price) values (?1, ?2)", (dish, 700 + i % 90))?;
        }
        Ok(change.commit()?)
    }

    /// What nobody wants to happen.
    pub(super) fn lose_the_shop(&self) -> anyhow::Result<()> {
        Connection::open(self.folder.path("data/shop.db"))?.execute_batch("drop table orders")?;
        Ok(fs::remove_dir_all(self.folder.path("data/documents"))?)
    }

    /// Fails unless every document is what it was.
    pub(super) fn check_documents(&self) -> anyhow::Result<()> {
        for (name, text) in DOCUMENTS {
            let path = self.folder.path("data/documents").join(name);
            let found =
                fs::read_to_string(&path).with_context(|| format!("{} was not restored", path.display()))?;
            ensure!(found == *text, "{} is not what it was", path.display());
        }
        Ok(())
    }

    /// Flips a byte of a pack of the shop's newest artifact in the first store; returns the object's path.
    pub(super) fn damage_a_pack(&self) -> anyhow::Result<String> {
        let packs = self.folder.path("stores/here/demo/shop/packs");
        let mut captures: Vec<PathBuf> =
            fs::read_dir(&packs)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        captures.sort();
        let pack = captures.pop().context("the shop has no packs")?.join("0");
        let mut file = fs::OpenOptions::new().read(true).write(true).open(&pack)?;
        let middle = file.metadata()?.len() / 2;
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, middle)?;
        file.seek(SeekFrom::Start(middle))?;
        file.write_all(&[!byte[0]])?;
        Ok(pack.display().to_string())
    }
}

const DOCUMENTS: &[(&str, &str)] = &[
    ("menu.txt", "Margherita 7.90\nRamen 11.50\nFalafel 6.50\nPho 10.90\n"),
    ("contracts/landlord.txt", "The rent is due on the first.\n"),
    ("contracts/farm.txt", "Forty crates of tomatoes a week.\n"),
];
