//! The generator of random numbers of all checks.

use std::collections::HashSet;

/// SplitMix64 (Steele, Lea & Flood 2014), from a seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0 .. 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Numbers uniform in -a .. a.
    pub fn numbers(&mut self, count: usize, a: f64) -> Vec<f32> {
        (0..count).map(|_| (a * (2.0 * self.unit() - 1.0)) as f32).collect()
    }

    /// Numbers uniform in low .. high.
    pub fn between(&mut self, count: usize, low: f32, high: f32) -> Vec<f32> {
        let (low, high) = (f64::from(low), f64::from(high));
        (0..count).map(|_| (low + (high - low) * self.unit()) as f32).collect()
    }

    /// So many of the numbers below `below`, each at most once; all in their order where they are no more (Bentley & Floyd
    /// 1987).
    pub fn distinct(&mut self, count: usize, below: usize) -> Vec<usize> {
        if count >= below {
            return (0..below).collect();
        }
        let (mut seen, mut drawn) = (HashSet::new(), Vec::with_capacity(count));
        for last in below - count..below {
            let any = (self.bits() % (last as u64 + 1)) as usize;
            let new = if seen.insert(any) { any } else { last };
            seen.insert(new);
            drawn.push(new);
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_numbers_are_as_many_as_asked_for_below_the_bound_and_all_are_drawn_at_times() {
        let (mut random, mut all) = (Random(1), HashSet::new());
        for count in [0, 1, 3, 7, 9] {
            for _ in 0..40 {
                let drawn = random.distinct(count, 8);
                let distinct: HashSet<usize> = drawn.iter().copied().collect();
                assert_eq!((drawn.len(), distinct.len()), (count.min(8), count.min(8)));
                assert!(drawn.iter().all(|&n| n < 8));
                all.extend(drawn.into_iter().filter(|_| count == 1));
            }
        }
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn numbers_between_two_lie_there_and_on_both_sides_of_the_middle() {
        let numbers = Random(2).between(200, -3e38, 2e37);
        assert!(numbers.iter().all(|x| (-3e38..=2e37).contains(x)));
        assert!(numbers.iter().any(|x| *x < -2e38) && numbers.iter().any(|x| *x > -1e38));
    }
}
