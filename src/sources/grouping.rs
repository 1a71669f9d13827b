//! Which members of an archive belong together in one run. Pure.
//!
//! Small members share a run of about 2 MiB. Where a run ends depends on the name and size of the member that ends it, not
//! on what came before, so that a new member disturbs its own run only. A big one is a run of its own.

/// Members from this size on are runs of their own, bytes.
pub(super) const BIG: u64 = 1024 * 1024;

/// The size of runs aimed at, bytes.
const USUAL: u64 = 2 * 1024 * 1024;

/// The largest run of small members, bytes.
pub(super) const LARGEST: u64 = 4 * 1024 * 1024;

/// What a member's headers weigh, bytes.
const HEADERS: u64 = 1024;

/// Members that belong together.
#[derive(Debug)]
pub(super) struct Grouping<M> {
    members: Vec<M>,
    weight: u64,
}

impl<M> Default for Grouping<M> {
    fn default() -> Self {
        Self { members: Vec::new(), weight: 0 }
    }
}

impl<M> Grouping<M> {
    /// Adds a member of `size` bytes, named `name` in the archive, and returns the runs that are complete with it.
    pub(super) fn add(&mut self, member: M, name: &[u8], size: u64) -> Vec<Vec<M>> {
        if size >= BIG {
            let before = self.finish();
            return before.into_iter().chain([vec![member]]).collect();
        }
        let weight = size + HEADERS;
        self.members.push(member);
        self.weight += weight;
        if ends_run(name, weight) || self.weight >= LARGEST {
            self.finish().into_iter().collect()
        } else {
            Vec::new()
        }
    }

    /// What is left.
    pub(super) fn finish(&mut self) -> Option<Vec<M>> {
        self.weight = 0;
        let members = std::mem::take(&mut self.members);
        (!members.is_empty()).then_some(members)
    }
}

/// True for one byte in [`USUAL`], so to say: heavier members end runs more often.
fn ends_run(name: &[u8], weight: u64) -> bool {
    let hash = blake3::hash(name);
    let lot = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
    lot < weight * (u64::MAX / USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Members = Vec<(String, u64)>;

    fn runs(members: impl IntoIterator<Item = (String, u64)>) -> Vec<Members> {
        let mut grouping = Grouping::default();
        let mut runs = Vec::new();
        for (name, size) in members {
            runs.extend(grouping.add((name.clone(), size), name.as_bytes(), size));
        }
        runs.extend(grouping.finish());
        runs
    }

    fn small(count: u32) -> Members {
        (0..count).map(|i| (format!("srv/{i:06}"), 20_000)).collect()
    }

    #[test]
    fn runs_keep_order_and_hold_a_few_mebibytes() {
        let all = small(5_000);
        let runs = runs(all.clone());
        assert_eq!(runs.concat(), all);
        assert!((25..150).contains(&runs.len()), "{}", runs.len());
        assert!(runs.iter().all(|run| run.iter().map(|(_, size)| size).sum::<u64>() <= LARGEST));
    }

    #[test]
    fn a_big_member_is_a_run_of_its_own() {
        let runs = runs([("a".into(), 1), ("b".into(), BIG), ("c".into(), 1)]);
        assert!(runs.contains(&vec![("b".to_owned(), BIG)]));
    }

    #[test]
    fn a_new_member_disturbs_few_runs() {
        let before = runs(small(5_000));
        for new in ["srv/000000x", "srv/002500x", "srv/004999x"] {
            let mut members = small(5_000);
            members.push((new.to_owned(), 20_000));
            members.sort();
            let after = runs(members);
            let disturbed = after.iter().filter(|run| !before.contains(run)).count();
            assert!(disturbed <= 3, "{disturbed} runs of {}", after.len());
        }
    }
}
