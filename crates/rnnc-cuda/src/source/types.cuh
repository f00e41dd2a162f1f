// What every generated kernel knows: its numbers and its arguments.

typedef unsigned int u32;
typedef unsigned long long u64;

struct Args {
    float* values;        // the plan's buffers
    float* weights;       // the flat weights
    float* gradients;     // the flat gradients
    float* slots;         // the optimizer's, one after another
    float* scratch;       // copies of rows, partial sums
    const u32* since_reset;      // [window, streams]: frames since the last reset
    const u32* ahead;     // [window, streams]: frames until the next reset, or the window's end
    const u64* run;       // see below
    u32* counters;        // of barriers and tickets; the first is the fault flag
    int first, end;       // the kernel runs frames first .. end of the window
    int begin;            // the first frame of the pass, of which these are a part
};

// Places in `run`: the absolute number of the window's first frame (as a signed number), the seed of dropout masks, then
// an update: the limit of the gradients' norm, which is a double's bits, and the step's numbers (see stages/update.rs),
// floats in the low halves.
enum { RUN_BEFORE = 0, RUN_SEED = 1, RUN_LIMIT = 2, RUN_NUMBERS = 3 };
