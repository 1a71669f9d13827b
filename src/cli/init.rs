//! `backstay init`: an infra repo and a controller configuration to begin with.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Output, exit::Exit, folder::Folder, git, identity, terminal::Terminal};

/// Make an infra repo and a controller configuration to begin with
///
/// Makes DIR with an infra repo (`infra`), the controller's configuration (`backstay.toml`), an age identity, two local
/// stores and a folder of example data. Nothing outside DIR is touched.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay init fleet && backstay --config fleet/backstay.toml plan")]
pub(super) struct Init {
    /// The folder to make; must not exist, or be empty
    #[arg(default_value = "backstay", value_name = "DIR")]
    dir: PathBuf,
    /// The fleet's name
    #[arg(long, default_value = "my-fleet")]
    name: crate::spec::names::FleetName,
}

#[derive(Serialize)]
struct Made {
    dir: PathBuf,
    config: PathBuf,
    infra_repo: PathBuf,
    recipient: String,
}

impl Init {
    pub(super) fn run(self, terminal: &Terminal) -> anyhow::Result<Exit> {
        let dir = Folder::make(&self.dir)?;
        let recipient = identity::create(&dir.path("identity.txt"))?;
        let render = |template: &str| {
            template
                .replace("{dir}", dir.root())
                .replace("{repo}", "infra")
                .replace("{listen}", "127.0.0.1:9180")
                .replace("{name}", self.name.as_str())
                .replace("{recipient}", &recipient)
        };
        dir.write("data/hello.txt", "Back me up.\n")?;
        dir.write("backstay.toml", &render(include_str!("../../templates/init/backstay.toml")))?;
        dir.write("infra/backup/fleet.toml", &render(include_str!("../../templates/init/fleet.toml")))?;
        for folder in ["stores/primary", "stores/second"] {
            dir.folder(folder)?;
        }
        git::init_and_commit(&dir.path("infra"), "Declare the first backup")?;
        report(terminal, &dir, recipient)
    }
}

fn report(terminal: &Terminal, dir: &Folder, recipient: String) -> anyhow::Result<Exit> {
    let config = dir.path("backstay.toml");
    if terminal.output == Output::Json {
        let made = Made { dir: PathBuf::from(dir.root()), config, infra_repo: dir.path("infra"), recipient };
        terminal.json("backstay.init/1", &made)?;
        return Ok(Exit::Done);
    }
    let root = dir.root();
    terminal.data(&format!(
        "Made {root}:\n\
         \x20 infra/          the infra repo: what is protected is declared in backup/fleet.toml\n\
         \x20 backstay.toml   the controller's own configuration\n\
         \x20 identity.txt    reads the artifacts: keep a copy off this machine\n\
         \x20 stores/, data/  two local stores, and example data\n\n\
         Next:\n\
         \x20 export BACKSTAY_CONFIG={}\n\
         \x20 backstay plan     # what a pass would do\n\
         \x20 backstay apply    # do it\n\
         \x20 backstay run      # and keep doing it\n",
        config.display()
    ))?;
    Ok(Exit::Done)
}
