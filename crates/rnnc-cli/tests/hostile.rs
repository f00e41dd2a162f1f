//! Valid files, spoilt: whatever stands in a file, it is taken or refused. The targets are those of `fuzz/`.
//!
//! `PROPTEST_CASES=100000` looks longer. With `RNNC_SEEDS=$PWD/fuzz/corpus` the valid files are written for cargo-fuzz to
//! begin with.

#[path = "../../../fuzz/targets.rs"]
mod targets;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestRunner, contextualize_config};
use targets::{TARGETS, seeds};

/// How many spoilt files of each kind, unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 600;

/// What stands in place of a number.
const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "2",
    "3",
    "-1",
    "255",
    "256",
    "65536",
    "4294967295",
    "9223372036854775807",
    "18446744073709551615",
    "1e999",
    "-0.5",
    "null",
];

/// What stands in place of anything.
const WORDS: [&str; 12] = ["", "\"", "[", "]", "{", "}", ",", ":", "(", ")", "\0", "\u{20ac}"];

/// A change to some bytes.
#[derive(Clone, Debug)]
enum Change {
    /// One bit.
    Bit(Index, u8),
    /// One byte.
    Byte(Index, u8),
    /// A number in digits, counted from the first.
    Number(Index, Index),
    /// A part becomes a word.
    Word(Index, u8, Index),
    /// A part stands twice.
    Twice(Index, u8),
    /// The end is missing.
    Cut(Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let index = any::<Index>;
    let change = prop_oneof![
        2 => (index(), 0..8u8).prop_map(|(at, bit)| Change::Bit(at, bit)),
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        4 => (index(), index()).prop_map(|(which, by)| Change::Number(which, by)),
        2 => (index(), 0..20u8, index()).prop_map(|(at, length, word)| Change::Word(at, length, word)),
        1 => (index(), any::<u8>()).prop_map(|(at, length)| Change::Twice(at, length)),
        1 => index().prop_map(Change::Cut),
    ];
    prop::collection::vec(change, 1..4)
}

fn spoil(bytes: &mut Vec<u8>, change: &Change) {
    let all = bytes.len();
    if all == 0 {
        return;
    }
    let part = |at: &Index, length: u8| {
        let at = at.index(all);
        at..(at + usize::from(length)).min(all)
    };
    match change {
        Change::Bit(at, bit) => bytes[at.index(all)] ^= 1 << bit,
        Change::Byte(at, byte) => bytes[at.index(all)] = *byte,
        Change::Number(which, by) => {
            let digit = |place: usize| bytes[place].is_ascii_digit();
            let starts = (0..all).filter(|&place| digit(place) && (place == 0 || !digit(place - 1)));
            let starts: Vec<usize> = starts.collect();
            if !starts.is_empty() {
                let start = starts[which.index(starts.len())];
                let end = (start..all).find(|&place| !digit(place)).unwrap_or(all);
                bytes.splice(start..end, NUMBERS[by.index(NUMBERS.len())].bytes());
            }
        }
        Change::Word(at, length, word) => {
            bytes.splice(part(at, *length), WORDS[word.index(WORDS.len())].bytes());
        }
        Change::Twice(at, length) => {
            let range = part(at, *length);
            let copy = bytes[range.clone()].to_vec();
            bytes.splice(range.start..range.start, copy);
        }
        Change::Cut(at) => bytes.truncate(at.index(all)),
    }
}

/// Spoils the files of a target. Of a safetensors file the header's length is set right again, for what stands in it to
/// matter.
fn spoiling(name: &str) {
    let seeds = seeds(name);
    let target = TARGETS.iter().find(|(other, _)| *other == name).unwrap().1;
    assert!(!seeds.is_empty() && seeds.iter().all(|seed| target(seed)), "they are valid");
    let config = contextualize_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() });
    let input = (any::<Index>(), changes(), any::<bool>());
    let tried = TestRunner::new(config).run(&input, |(seed, changes, inside)| {
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        if inside && matches!(name, "weights" | "checkpoint") {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let mut header = bytes[8..8 + length].to_vec();
            changes.iter().for_each(|change| spoil(&mut header, change));
            bytes.splice(8..8 + length, header.iter().copied());
            bytes[..8].copy_from_slice(&(header.len() as u64).to_le_bytes());
        } else {
            changes.iter().for_each(|change| spoil(&mut bytes, change));
        }
        std::panic::catch_unwind(|| target(&bytes))
            .map(drop)
            .map_err(|_| TestCaseError::fail(format!("a panic: {:?}", String::from_utf8_lossy(&bytes))))
    });
    if let Err(error) = tried {
        panic!("{error}");
    }
}

macro_rules! spoilt {
    ($($test:ident: $target:literal,)*) => { $(
        #[test]
        fn $test() {
            spoiling($target);
        }
    )* };
}

spoilt! {
    a_spoilt_network_is_taken_or_refused: "network",
    spoilt_settings_are_taken_or_refused: "settings",
    a_spoilt_archive_is_taken_or_refused: "arrays",
    a_spoilt_array_is_taken_or_refused: "array",
    spoilt_weights_are_taken_or_refused: "weights",
    a_spoilt_checkpoint_is_taken_or_refused: "checkpoint",
    a_spoilt_state_is_taken_or_refused: "state",
    a_spoilt_sound_is_taken_or_refused: "audio",
    a_spoilt_table_is_taken_or_refused: "table",
}

#[test]
fn seeds_are_written_where_cargo_fuzz_takes_them_from() {
    let kept = tempfile::tempdir().unwrap();
    let directory = std::env::var_os("RNNC_SEEDS").map_or(kept.path().into(), std::path::PathBuf::from);
    for (name, _) in TARGETS {
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        for (place, seed) in seeds(name).iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{place}")), seed).unwrap();
        }
        assert!(std::fs::read_dir(&directory).unwrap().count() > 0);
    }
}
