//! What cores are taken to do: constants, never measured, so that the same network is scheduled alike everywhere.

/// What a core is taken to do in a microsecond, and what it costs to wait for others. Where the numbers come from, bench/NOTES.md
/// says; only their ratios matter to the choices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    /// Floating-point operations of products.
    pub product: f64,
    /// All others; a transcendental function counts 10.
    pub other: f64,
    /// Bytes of weights that are read from the core's own cache.
    pub near: f64,
    /// The same from the cache that all share.
    pub far: f64,
    /// The same from memory, while all cores read.
    pub memory: f64,
    /// How many bytes the core's own cache holds from step to step, and how many the shared one.
    pub caches: (f64, f64),
    /// Bytes of values that a core moves, from one stage to the next: in its own cache, in the shared one, in memory.
    pub values: [f64; 3],
    /// Microseconds of beginning an operation, or a row of one that is no product.
    pub step: f64,
    /// Microseconds that a barrier of workers takes, waiting for the slowest included.
    pub barrier: f64,
    /// Microseconds until all workers have begun, and the caller has learned of their end.
    pub run: f64,
    /// The same if they sleep: where the caller hands in one frame at a time.
    pub wake: f64,
}

impl Speeds {
    /// Of a core.
    pub const CORE: Speeds = Speeds {
        product: 95e3,
        other: 10e3,
        near: 85e3,
        far: 70e3,
        memory: 15e3,
        caches: ((512 << 10) as f64, (16 << 20) as f64),
        values: [85e3, 60e3, 25e3],
        step: 0.02,
        barrier: 1.0,
        run: 1.0,
        wake: 30.0,
    };

    /// Rows for which a worker reads a matrix once.
    pub(super) const ROWS: f64 = 192.0;

    /// The most chunks of a pipeline.
    pub(super) const MOST_CHUNKS: usize = 64;

    /// What it takes at most to run a scan in chunks, beside as it stands: tiles of frames are copied to and fro.
    pub(super) const IN_CHUNKS: f64 = 1.5;

    /// Predictions are not exact: what a pipeline may take at most of the time without it.
    pub(super) const LEAST_GAIN: f64 = 0.95;

    /// The same of time blocks, which leave partitions as they are: with 512 units they are predicted to gain 2%, and lose.
    pub(super) const LEAST_GAIN_OF_TIME_BLOCKS: f64 = 0.975;
}
