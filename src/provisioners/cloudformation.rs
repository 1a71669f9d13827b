//! Machines by stacks of CloudFormation: the rendered template is the body of a stack, which is made, followed and deleted.
//!
//! ```text
//! wanted (what is declared, and whose it is) · reach (the calls) · status, events (what answers mean; pure)
//! by_hand (the same without Backstay; pure) · follow (an operation to its end) · preview (a change set) · drift (how resources differ)
//! ```
//!
//! A stack bears tags that tell whose it is. One without them is never touched, whatever its name.

mod by_hand;
mod drift;
mod events;
mod failure;
mod follow;
mod preview;
mod reach;
mod status;
mod wanted;

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudformation::types::Stack;

use super::{ProvisionError, Provisioner, Said};
use crate::{
    aws::{self, CloudformationOptions},
    inventory::{Machine, PreviewMark, Running},
    plan::by_hand::MadeByHand,
};
use events::Trail;
use failure::Failure;
use reach::Reach;
use status::Standing;
pub use wanted::{Declared, Wanted};

/// How an operation is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks.
    pub poll: Duration,
    /// The longest silence: no event, no other status.
    pub quiet: Duration,
    /// The longest time of one operation. CloudFormation itself rolls a stack back that takes over half of it.
    pub longest: Duration,
    /// The longest time that a look waits until the server has found out about drift.
    pub drift: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let seconds = Duration::from_secs;
        Self { poll: seconds(3), quiet: minutes(30), longest: minutes(120), drift: seconds(20) }
    }
}

/// A machine as a stack.
#[derive(Clone, Debug)]
pub struct CloudformationProvisioner {
    reach: Reach,
    endpoint: Option<String>,
    wanted: Wanted,
    pace: Pace,
}

impl CloudformationProvisioner {
    /// The stack of a declared machine. Connects when it is first used.
    ///
    /// # Errors
    /// Without an access key, or on an authority (`AWS_CA_BUNDLE`) that cannot be read.
    pub fn new(options: CloudformationOptions, wanted: Wanted) -> Result<Self, ProvisionError> {
        let client = aws::cloudformation(&options);
        let client = client.map_err(|fault| Failure::Aws(fault).explain("use", &wanted))?;
        Ok(Self { reach: Reach::new(client), endpoint: options.endpoint, wanted, pace: Pace::default() })
    }

    /// The same, followed at another pace.
    pub fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    async fn found(&self) -> Result<Option<Stack>, Failure> {
        self.reach.stack(self.wanted.name()).await
    }

    async fn observed(&self) -> Result<Machine, Failure> {
        let Some(stack) = self.found().await? else { return Ok(Machine::Gone) };
        // Of what this controller's drill made nothing is there.
        if self.wanted.is_anothers(&stack) {
            return Ok(Machine::Gone);
        }
        if let Err(why) = self.wanted.owns(&stack) {
            return Ok(Machine::Broken { why });
        }
        match status::standing(status::of(&stack)) {
            Standing::Gone => Ok(Machine::Gone),
            Standing::Runs => self.running(&stack).await,
            Standing::UnderWay | Standing::Broken => Ok(Machine::Broken { why: status::told(&stack) }),
        }
    }

    /// A stack that says that it is there: what of it really is.
    async fn running(&self, stack: &Stack) -> Result<Machine, Failure> {
        let resources = self.reach.resources(status::id_of(stack)?).await?;
        if let Some(why) = status::missing(&resources) {
            return Ok(Machine::Broken { why });
        }
        let found = drift::look(&self.reach, stack, self.pace).await?;
        if let Some(why) = found.lost() {
            return Ok(Machine::Broken { why });
        }
        let mut drift = self.wanted.differs(stack);
        drift.extend(found.changes());
        Ok(Machine::Running(Running { drift, ..status::running(stack)? }))
    }

    async fn previewed(&self, mark: &PreviewMark) -> Result<Vec<String>, Failure> {
        let found = self.found().await?;
        if let Some(stack) = &found {
            self.wanted.owns(stack).map_err(Failure::Foreign)?;
        }
        let there = found
            .iter()
            .map(|stack| format!("{} is there already ({}), and goes first", self.wanted, status::of(stack)));
        let changes = preview::changes(&self.reach, &self.wanted, mark, self.pace).await?;
        Ok(there.chain(changes).collect())
    }

    async fn preview_cleared(&self, mark: &PreviewMark, said: Said<'_>) -> Result<(), Failure> {
        let name = preview::name(&self.wanted, mark);
        let Some(stack) = preview::left(&self.reach, &name).await? else { return Ok(()) };
        let id = status::id_of(&stack)?;
        let change_sets = preview::must_be_ours(&self.reach, &self.wanted, &stack).await?;
        said(&format!("removing stack {name}, which a preview left that was cut off"));
        let mut trail = Trail::after(self.reach.events(id, None).await?);
        if status::of(&stack) != status::DELETING {
            self.reach.delete(id).await?;
        }
        self.deleted(id, &mut trail, said).await?;
        for change_set in change_sets {
            self.reach.drop_change_set(&change_set).await;
        }
        Ok(())
    }

    async fn made(&self, said: Said<'_>) -> Result<Running, Failure> {
        if let Some(stack) = self.found().await? {
            self.wanted.owns(&stack).map_err(Failure::Foreign)?;
            return Err(Failure::There(status::told(&stack)));
        }
        let (id, doubt) = self.create().await?;
        let mut trail = Trail::default();
        let settled = |status: &str| status::standing(status) != Standing::UnderWay;
        let stack = follow::follow(&self.reach, &id, &mut trail, self.pace, said, settled).await;
        let stack = stack.map_err(|failure| failure.after(doubt))?.ok_or(Failure::Vanished)?;
        if status::standing(status::of(&stack)) != Standing::Runs {
            let left = self.reach.resources(&id).await.map(|all| status::left(&all)).unwrap_or_default();
            return Err(Failure::NotMade {
                told: status::told(&stack),
                because: trail.first_failure(),
                left,
            });
        }
        let resources = self.reach.resources(&id).await?;
        match status::missing(&resources) {
            Some(why) => Err(Failure::NotMade { told: why, because: None, left: Vec::new() }),
            None => status::running(&stack),
        }
    }

    /// Begins to make the stack: its id, and what the server said against it though it began.
    async fn create(&self) -> Result<(String, Option<Failure>), Failure> {
        let refused = match self.reach.create(&self.wanted, self.pace).await {
            Ok(id) => return Ok((id, None)),
            Err(Failure::Aws(fault)) if fault.is_existing() => return Err(Failure::Aws(fault)),
            Err(failure) => failure,
        };
        // The call is made once, and nothing was there before it: what is there now came of it, whatever it answered.
        let Ok(Some(stack)) = self.found().await else { return Err(refused) };
        match self.wanted.owns(&stack) {
            Ok(()) => Ok((status::id_of(&stack)?.to_owned(), Some(refused))),
            Err(_) => Err(refused),
        }
    }

    async fn removed(&self, said: Said<'_>) -> Result<(), Failure> {
        let Some(mut stack) = self.found().await? else { return Ok(()) };
        self.wanted.owns(&stack).map_err(Failure::Foreign)?;
        let id = status::id_of(&stack)?.to_owned();
        let mut trail = Trail::after(self.reach.events(&id, None).await?);
        if status::holds_up_deletion(status::of(&stack)) {
            said(&format!("waiting for what goes on already: {}", status::told(&stack)));
            let settled = |status: &str| !status::holds_up_deletion(status);
            match follow::follow(&self.reach, &id, &mut trail, self.pace, said, settled).await? {
                Some(settled) => stack = settled,
                None => return Ok(()),
            }
        }
        if stack.enable_termination_protection() == Some(true) {
            return Err(Failure::Protected);
        }
        if status::of(&stack) != status::DELETING {
            self.reach.delete(&id).await?;
        }
        self.deleted(&id, &mut trail, said).await
    }

    /// Follows a deletion that has begun.
    async fn deleted(&self, id: &str, trail: &mut Trail, said: Said<'_>) -> Result<(), Failure> {
        let ended = |status: &str| status == status::DELETED || status == status::NOT_DELETED;
        match follow::follow(&self.reach, id, trail, self.pace, said, ended).await? {
            Some(stack) if status::of(&stack) == status::NOT_DELETED => {
                let left = status::left(&self.reach.resources(id).await?);
                Err(Failure::NotDeleted { told: status::told(&stack), because: trail.first_failure(), left })
            }
            _ => {
                let kept = trail.kept();
                if !kept.is_empty() {
                    said(&format!("kept, as the template says (DeletionPolicy): {}", kept.join(", ")));
                }
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Provisioner for CloudformationProvisioner {
    async fn observe(&self) -> Result<Machine, ProvisionError> {
        self.observed().await.map_err(|failure| failure.explain("look at", &self.wanted))
    }

    async fn preview(&self, mark: &PreviewMark) -> Result<Vec<String>, ProvisionError> {
        self.previewed(mark).await.map_err(|failure| failure.explain("preview", &self.wanted))
    }

    async fn clear_preview(&self, mark: &PreviewMark, said: Said<'_>) -> Result<(), ProvisionError> {
        let cleared = self.preview_cleared(mark, said).await;
        cleared.map_err(|failure| failure.explain("remove what a preview left of", &self.wanted))
    }

    async fn by_hand(&self, folder: &str) -> Result<MadeByHand, ProvisionError> {
        Ok(by_hand::made(&self.wanted, self.endpoint.as_deref(), folder))
    }

    async fn up(&self, said: Said<'_>) -> Result<Running, ProvisionError> {
        self.made(said).await.map_err(|failure| failure.explain("make", &self.wanted))
    }

    async fn down(&self, said: Said<'_>) -> Result<(), ProvisionError> {
        self.removed(said).await.map_err(|failure| failure.explain("remove", &self.wanted))
    }
}
