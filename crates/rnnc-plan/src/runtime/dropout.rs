//! Which units a dropout mask keeps: a pure function of where the unit stands, so that the adjoint, a resumed run and
//! every executor draw the same.

/// Whether unit `unit` of `stream` is kept in absolute frame `frame`. `key` is the mask's: see
/// [`rnnc_graph::Operation::DropoutMask`].
pub fn keeps(seed: u64, key: u64, frame: u64, stream: u64, unit: u64, probability: f64) -> bool {
    let mut hash = mix(seed ^ mix(key));
    hash = mix(hash ^ frame);
    hash = mix(hash ^ (stream << 32 | (unit & 0xffff_ffff)));
    (hash >> 32) as f64 >= probability * 4_294_967_296.0
}

/// A number of which every bit depends on every bit of another: the finalizer of SplitMix64 (Steele, Lea & Flood 2014).
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::keeps;

    #[test]
    fn the_share_kept_is_what_was_asked_for() {
        let kept =
            (0..200).flat_map(|f| (0..100).map(move |u| (f, u))).filter(|&(f, u)| keeps(1, 2, f, 0, u, 0.3));
        let share = kept.count() as f64 / 20_000.0;
        assert!((share - 0.7).abs() < 0.01, "{share}");
    }
}
