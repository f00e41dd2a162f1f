//! The states of an affine recurrence, s(t) = A(t) s(t-1) + b(t), frame after frame: sixteen lanes at a time, whose states
//! stay in registers.

#![allow(unsafe_code)] // to call code for instructions that an Isa has shown to be there

use super::isa::{mul_add, multiversion};
use std::ops::Range;

/// Lanes side by side: those of a tile's row are a whole number of lines.
pub type Line = [f32; LANES];

/// Lanes of a line.
pub const LANES: usize = 16;

/// The most numbers of a lane's state.
pub const LARGEST_ORDER: usize = 4;

/// What a frame makes of the numbers that it reads of frames before.
#[derive(Debug, Default)]
pub struct Affine {
    /// A value for each.
    pub states: Vec<Row>,
    /// For each number of the state, the tile that takes what each frame reads, if something else wants it.
    pub reads: Vec<Option<usize>>,
}

/// A row of A and b, by the tiles that hold them; `None` is 0.
#[derive(Debug)]
pub struct Row {
    /// Among the numbers of the state, that of the frame before. Those of earlier frames follow.
    pub slot: usize,
    /// How many they are.
    pub depth: usize,
    /// Of each number of the state.
    pub coefficients: Vec<Option<usize>>,
    /// What is added.
    pub rest: Option<usize>,
    /// Takes the new value.
    pub new: usize,
}

impl Affine {
    /// k: the numbers of a lane's state.
    pub fn order(&self) -> usize {
        self.reads.len()
    }
}

/// What runs through the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// States, each of which is put into its tile.
    States,
    /// b alone: what a state of zero leads to.
    Rest,
    /// A alone.
    Coefficients,
}

/// Rows of tiles.
#[derive(Clone, Debug)]
pub struct TileRows {
    /// Lines of a tile.
    pub tile: usize,
    /// Lines of a row.
    pub lines: usize,
    /// Which.
    pub range: Range<usize>,
    /// Whether from the last to the first.
    pub backward: bool,
}

multiversion! {
    /// Takes a state, `lines` lines for each of its numbers, through some rows.
    pub fn advance(affine: &Affine, what: What, rows: &TileRows, tiles: &mut [Line], state: &mut [Line]) = advance_body;
}

#[inline(always)]
fn advance_body<const FMA: bool>(
    affine: &Affine,
    what: What,
    rows: &TileRows,
    tiles: &mut [Line],
    state: &mut [Line],
) {
    match affine.order() {
        1 => of_order::<1, FMA>(affine, what, rows, tiles, state),
        2 => of_order::<2, FMA>(affine, what, rows, tiles, state),
        3 => of_order::<3, FMA>(affine, what, rows, tiles, state),
        LARGEST_ORDER => of_order::<4, FMA>(affine, what, rows, tiles, state),
        _ => {}
    }
}

#[inline(always)]
fn of_order<const K: usize, const FMA: bool>(
    affine: &Affine,
    what: What,
    rows: &TileRows,
    tiles: &mut [Line],
    state: &mut [Line],
) {
    for line in 0..rows.lines {
        let mut s: [Line; K] = std::array::from_fn(|slot| state[slot * rows.lines + line]);
        for n in 0..rows.range.len() {
            let row = if rows.backward { rows.range.end - 1 - n } else { rows.range.start + n };
            let at = |tile: usize| tile * rows.tile + row * rows.lines + line;
            if what == What::States {
                for (slot, read) in affine.reads.iter().enumerate().take(K) {
                    if let Some(tile) = *read {
                        tiles[at(tile)] = s[slot];
                    }
                }
            }
            let before = s;
            for of in &affine.states {
                let rest = of.rest.filter(|_| what != What::Coefficients);
                let mut new = rest.map_or([0.0; LANES], |tile| tiles[at(tile)]);
                for (coefficient, old) in of.coefficients.iter().zip(&before) {
                    if let Some(tile) = *coefficient {
                        let coefficient = &tiles[at(tile)];
                        for ((new, coefficient), old) in new.iter_mut().zip(coefficient).zip(old) {
                            *new = mul_add::<FMA>(*coefficient, *old, *new);
                        }
                    }
                }
                if what == What::States {
                    tiles[at(of.new)] = new;
                }
                for delay in (1..of.depth).rev() {
                    s[of.slot + delay] = before[of.slot + delay - 1];
                }
                s[of.slot] = new;
            }
        }
        for (slot, s) in s.into_iter().enumerate() {
            state[slot * rows.lines + line] = s;
        }
    }
}
