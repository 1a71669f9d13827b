//! Where a stream is cut: FastCDC in its version of 2020, as the bytes come.
//!
//! The places depend on the content alone, so that an insertion moves the cuts around it only. Unlike the `fastcdc`
//! crate, whose tables these are and whose cuts we match, the cutter keeps its place between calls: nothing is scanned
//! twice, and no buffer has to hold the longest segment before the first cut.

use fastcdc::v2020::{Normalization, get_gear_with_seed, select_masks};

/// Average of streams of ordinary size, bytes.
const AVERAGE: u32 = 1 << 20;

/// The hash is of this many bytes: each shifts it by one of its bits.
const WINDOW: usize = u64::BITS as usize;

/// Bytes of one lane, and how many lanes are scanned side by side. One alone would wait for its own last sum at every
/// byte.
const LANE: usize = 4096;
const LANES: usize = 4;

/// The average length that a stream of about `expected` bytes is cut to: larger streams have larger segments, so that an
/// index stays in memory.
pub fn average_for(expected: Option<u64>) -> u32 {
    const GIB: u64 = 1 << 30;
    match expected.unwrap_or(0) {
        length if length < 64 * GIB => AVERAGE,
        length if length < 256 * GIB => 2 * AVERAGE,
        _ => 4 * AVERAGE,
    }
}

/// Cuts one stream.
pub struct Cutter {
    gear: Box<[u64; 256]>,
    shortest: usize,
    average: usize,
    longest: usize,
    mask_before: u64,
    mask_behind: u64,
    hash: u64,
    /// How much of the current segment was scanned.
    at: usize,
}

/// What became of the bytes that were scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All belong to the segment, which goes on.
    Inside,
    /// The segment ends before the byte of this number; the rest was not scanned.
    Before(usize),
}

impl Cutter {
    /// A cutter to about `average` bytes, from half of it up to four times as much, and never over 8 MiB. Seeds
    /// cut in different places.
    pub fn new(average: u32, seed: u64) -> Self {
        let average = average.clamp(4096, 4 << 20).next_power_of_two() as usize;
        let (mask_before, mask_behind) = select_masks(average, Normalization::Level1);
        let (table, _) = get_gear_with_seed(seed);
        let mut gear = Box::new([0; 256]);
        gear.copy_from_slice(&table);
        Self {
            gear,
            shortest: average / 2,
            average,
            longest: (average * 4).min(8 << 20),
            mask_before,
            mask_behind,
            hash: 0,
            at: 0,
        }
    }

    /// Scans further bytes of the current segment.
    pub fn scan(&mut self, bytes: &[u8]) -> Cut {
        let start = self.at;
        let upto = |end: usize| end.saturating_sub(start).min(bytes.len());
        let (skipped, before, behind) = (upto(self.shortest), upto(self.average), upto(self.longest));
        let found = self.find(&bytes[skipped..before], self.mask_before).map(|i| skipped + i);
        let found = found.or_else(|| self.find(&bytes[before..behind], self.mask_behind).map(|i| before + i));
        match found {
            Some(cut) => self.end(cut),
            None if behind < bytes.len() => self.end(behind),
            None => {
                self.at += bytes.len();
                Cut::Inside
            }
        }
    }

    /// Begins a segment whatever was scanned.
    pub fn restart(&mut self) {
        self.hash = 0;
        self.at = 0;
    }

    fn end(&mut self, cut: usize) -> Cut {
        self.restart();
        Cut::Before(cut)
    }

    fn find(&mut self, bytes: &[u8], mask: u64) -> Option<usize> {
        let mut passed = 0;
        for block in bytes.chunks_exact(LANES * LANE) {
            let Some(hash) = self.pass(block, mask) else { break };
            self.hash = hash;
            passed += block.len();
        }
        self.find_in_order(&bytes[passed..], mask).map(|i| passed + i)
    }

    fn find_in_order(&mut self, bytes: &[u8], mask: u64) -> Option<usize> {
        let mut hash = self.hash;
        for (i, byte) in bytes.iter().enumerate() {
            hash = self.roll(hash, *byte);
            if hash & mask == 0 {
                return Some(i);
            }
        }
        self.hash = hash;
        None
    }

    /// The hash at the end of a block; `None` if there is a cut somewhere in it. A lane needs no more of what is before it
    /// than one window.
    fn pass(&self, block: &[u8], mask: u64) -> Option<u64> {
        let (lanes, _) = block.as_chunks::<LANE>();
        let lanes: &[[u8; LANE]; LANES] = lanes.first_chunk()?;
        let before = |lane: usize| lanes[lane - 1][LANE - WINDOW..].iter().fold(0, |h, b| self.roll(h, *b));
        let mut hashes = [self.hash, before(1), before(2), before(3)];
        for at in 0..LANE {
            for (hash, lane) in hashes.iter_mut().zip(lanes) {
                *hash = self.roll(*hash, lane[at]);
                if *hash & mask == 0 {
                    return None;
                }
            }
        }
        Some(hashes[LANES - 1])
    }

    #[inline]
    fn roll(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.gear[usize::from(byte)])
    }
}

#[cfg(test)]
mod tests {
    use fastcdc::v2020::FastCDC;
    use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        StdRng::seed_from_u64(7).fill_bytes(&mut bytes);
        bytes
    }

    fn cuts(mut cutter: Cutter, pieces: impl Iterator<Item = Vec<u8>>) -> Vec<usize> {
        let (mut lengths, mut open) = (vec![], 0);
        for piece in pieces {
            let mut rest = piece.as_slice();
            while let Cut::Before(cut) = cutter.scan(rest) {
                lengths.push(open + cut);
                open = 0;
                rest = &rest[cut..];
            }
            open += rest.len();
        }
        lengths.push(open);
        lengths
    }

    #[test]
    fn cuts_are_those_of_fastcdc_however_the_bytes_come() {
        let stream = noise(3_000_001);
        let known: Vec<_> = FastCDC::new(&stream, 32 << 10, 64 << 10, 256 << 10).map(|c| c.length).collect();
        assert!(known.len() > 20);
        let mut random = StdRng::seed_from_u64(1);
        let mut rest = stream.as_slice();
        let pieces = std::iter::from_fn(|| {
            let (piece, behind) = rest.split_at(random.random_range(0..=rest.len().min(100_000)));
            rest = behind;
            (!piece.is_empty() || !rest.is_empty()).then(|| piece.to_vec())
        });
        assert_eq!(cuts(Cutter::new(64 << 10, 0), pieces), known);
        assert_eq!(cuts(Cutter::new(64 << 10, 0), std::iter::once(stream.clone())), known);
        assert_ne!(cuts(Cutter::new(64 << 10, 5), std::iter::once(stream)), known);
    }

    #[test]
    fn bytes_without_a_natural_cut_are_cut_at_the_longest() {
        let lengths = cuts(Cutter::new(64 << 10, 0), std::iter::once(vec![0; 600 << 10]));
        assert_eq!(lengths, [256 << 10, 256 << 10, 88 << 10]);
    }

    #[test]
    fn larger_streams_have_larger_segments() {
        assert_eq!(average_for(None), 1 << 20);
        assert_eq!(average_for(Some(100 << 30)), 2 << 20);
        assert_eq!(average_for(Some(1 << 40)), 4 << 20);
    }
}
