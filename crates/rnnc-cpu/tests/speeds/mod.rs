//! Cores of the kinds that make a schedule partition work in every way.

use rnnc_cpu::Speeds;

const CORE: Speeds = Speeds { run: 0.0, wake: 0.0, step: 0.0, ..Speeds::CORE };
/// Cores so slow that barriers cost nothing beside: all is shared out.
pub const NIMBLE: Speeds = Speeds { product: 1.0, other: 1.0, near: 1.0, far: 1.0, memory: 1.0, ..CORE };
/// Such cores that take long to meet: loops run at the same time where they can.
pub const TARDY: Speeds = Speeds { barrier: 20.0, ..NIMBLE };
/// Cores that fit a frame or some into their caches, and have to move all else from far away: stages run in time blocks.
pub const FORGETFUL: Speeds =
    Speeds { values: [1e9, 1e-9, 1e-9], caches: (4096.0, 4096.0), barrier: 0.0, ..NIMBLE };
/// All of them, and usual ones.
pub const ALL: [Speeds; 4] = [Speeds::CORE, NIMBLE, TARDY, FORGETFUL];
