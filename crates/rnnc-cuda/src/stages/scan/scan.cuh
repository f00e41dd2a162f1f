// What scans share.

// Waits until a counter has reached a number. Bounded: a wait that does not end raises the fault flag and goes on.
DEVICE void wait_until(const Args& a, const u32* counter, u32 number, u32 code) {
    for (u32 polls = 0; peek(counter) < number; ++polls) {
        if (polls > 10000000u) {
            raise(a.counters, code);
            return;
        }
    }
}

// Adds what a state gives by a coefficient. A state of 0 gives nothing, whatever the coefficient: over many frames it may be beyond
// all bounds though no frame's is.
DEVICE float add_share(float coefficient, float state, float sum) { return state == 0.f ? sum : fused(coefficient, state, sum); }
