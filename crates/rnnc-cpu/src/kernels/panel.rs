//! Panels: the weights of a product in the order in which its kernels read them.

/// Outputs of a panel.
pub const PANEL: usize = 16;

/// A part of a panel: lines, each of an input, with the weights of all outputs.
pub type Square = [[f32; PANEL]; PANEL];
