//! Which bytes of which packs are read together.

use std::ops::Range;

use crate::artifact::{index::Segment, layout::PackName};

/// One read of a pack: segments that lie one behind the other, in the order of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) pack: PackName,
    pub(super) range: Range<u64>,
    pub(super) segments: Vec<Segment>,
}

/// Joins neighbours into reads of at most `most` bytes; a longer segment is read on its own.
pub(super) fn coalesce(segments: &[Segment], most: u64) -> Vec<Fetch> {
    let mut fetches: Vec<Fetch> = Vec::new();
    for segment in segments {
        let (pack, range) = (segment.extent.pack, segment.extent.range());
        match fetches.last_mut() {
            Some(last)
                if last.pack == pack
                    && last.range.end == range.start
                    && range.end - last.range.start <= most =>
            {
                last.range.end = range.end;
                last.segments.push(*segment);
            }
            _ => fetches.push(Fetch { pack, range, segments: vec![*segment] }),
        }
    }
    fetches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{
        ArtifactId,
        index::{Extent, KeyedHash},
    };

    fn ranges(segments: &[(u32, u64, u32)], most: u64) -> Vec<(u32, Range<u64>, usize)> {
        let artifact = ArtifactId::new("2026-11-20T01:00:00Z".parse().unwrap(), 7);
        let segments: Vec<Segment> = segments
            .iter()
            .map(|&(number, offset, length)| Segment {
                hash: KeyedHash([0; 32]),
                extent: Extent { pack: PackName { artifact, number }, offset, length },
            })
            .collect();
        let show = |fetch: Fetch| (fetch.pack.number, fetch.range, fetch.segments.len());
        coalesce(&segments, most).into_iter().map(show).collect()
    }

    #[test]
    fn neighbours_are_read_together_up_to_the_limit() {
        let segments = [(0, 0, 10), (0, 10, 10), (0, 20, 10), (1, 30, 10), (1, 50, 10), (0, 60, 10)];
        assert_eq!(
            ranges(&segments, 20),
            [(0, 0..20, 2), (0, 20..30, 1), (1, 30..40, 1), (1, 50..60, 1), (0, 60..70, 1)]
        );
    }

    #[test]
    fn a_segment_that_repeats_or_is_longer_than_the_limit_is_read_on_its_own() {
        assert_eq!(
            ranges(&[(0, 0, 10), (0, 0, 10), (0, 10, 99)], 20),
            [(0, 0..10, 1), (0, 0..10, 1), (0, 10..109, 1)]
        );
    }
}
