//! Which units of a layer a worker has.

use crate::schedule::grain;
use std::ops::Range;

/// The units that a worker has of a layer of `slice_len` units: whole heads, if it falls into so many, or else cache lines, as evenly as
/// can be.
pub(crate) fn unit_range(slice_len: usize, heads: usize, worker: usize, workers: usize) -> Range<usize> {
    let grain = grain(slice_len, heads);
    let grains = slice_len.div_ceil(grain);
    let at = |worker: usize| (grains * worker / workers * grain).min(slice_len);
    at(worker)..at(worker + 1)
}

/// Of a product into `len` units - layers of `slice_len` side by side, or the part of one that begins at `first` - those
/// runs (first place, length) that are a worker's, who has `units` of every layer.
pub(crate) fn runs(
    len: usize,
    slice_len: usize,
    first: usize,
    units: &Range<usize>,
) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (layers, lo, hi) = if len < slice_len {
        // A part of one layer.
        (1, units.start.clamp(first, first + len) - first, units.end.clamp(first, first + len) - first)
    } else {
        (len / slice_len, units.start, units.end)
    };
    (0..layers).filter(move |_| lo < hi).map(move |layer| (layer * slice_len + lo, hi - lo))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_shared_out_once_each_at_cache_lines() {
        for slice_len in [1, 15, 16, 17, 100, 256] {
            for workers in 1..5 {
                let ranges: Vec<_> = (0..workers).map(|w| unit_range(slice_len, 1, w, workers)).collect();
                assert_eq!(ranges.iter().map(|r| r.len()).sum::<usize>(), slice_len);
                assert!(ranges.iter().all(|r| r.start.is_multiple_of(16) || r.is_empty()));
            }
        }
    }

    #[test]
    fn whole_heads_are_shared_out_once_each_and_layers_without_them_by_cache_lines() {
        for (slice_len, heads, workers) in [(60, 4, 2), (60, 3, 2), (12, 4, 3), (8, 2, 5), (64, 64, 3)] {
            let ranges: Vec<_> = (0..workers).map(|w| unit_range(slice_len, heads, w, workers)).collect();
            assert_eq!(ranges.iter().map(|r| r.len()).sum::<usize>(), slice_len);
            assert!(ranges.iter().all(|r| r.start.is_multiple_of(slice_len / heads)), "{ranges:?}");
        }
        assert_eq!(unit_range(34, 4, 1, 2), unit_range(34, 1, 1, 2));
    }

    #[test]
    fn runs_are_a_workers_units_of_every_layer() {
        assert_eq!(runs(8, 4, 0, &(1..3)).collect::<Vec<_>>(), [(1, 2), (5, 2)]);
        assert_eq!(runs(3, 8, 4, &(0..5)).collect::<Vec<_>>(), [(0, 1)]);
        assert_eq!(runs(3, 8, 4, &(0..4)).count(), 0);
    }
}
