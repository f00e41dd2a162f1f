// What persistent loop kernels share.

// Sums N rows of numbers over each L lanes of a warp, both powers of two, N up to L: lane i returns the sum of row i mod N.
template <int S, int N> DEVICE void fold_half(float (&v)[N], bool up) {
    UNROLL for (int r = 0; r < S; r++) {
        float give = up ? v[r] : v[r + S], keep = up ? v[r + S] : v[r];
        v[r] = keep + shuffle_xor(give, S);
    }
}
template <int N, int L> DEVICE float fold(float (&v)[N], u32 lane) {
    if (N > 16) fold_half<16 < N ? 16 : 0>(v, lane & 16);
    if (N > 8) fold_half<8 < N ? 8 : 0>(v, lane & 8);
    if (N > 4) fold_half<4 < N ? 4 : 0>(v, lane & 4);
    if (N > 2) fold_half<2 < N ? 2 : 0>(v, lane & 2);
    if (N > 1) fold_half<1 < N ? 1 : 0>(v, lane & 1);
    float sum = v[0];
    UNROLL for (int s = N; s < L; s *= 2) sum += shuffle_xor(sum, s);
    return sum;
}

// The most times that a wait asks.
const u32 MOST_POLLS = 20000000u;

// Waits until counters that this warp needs (lane i: counter i, if `members` is not 0) say that `steps` steps are done by
// all their members. Bounded: a wait that does not end raises the fault flag, and no later wait waits.
DEVICE void wait_for(const Args& a, u32 counter, u32 lane, u32 members, int steps, u32 code, bool& failed) {
    if (steps <= 0 || failed) return;
    const u32 want = (u32)steps * members;
    for (u32 polls = 0; ballot(members && peek(a.counters + counter + lane * 32) < want); polls++) {
        if (polls > MOST_POLLS) {
            raise(a.counters, code);
            failed = true;
            return;
        }
    }
}

// Numbers that are their own flag: where none has been posted yet, there is a NaN of these bits, which none that is posted
// has.
const u32 ABSENT = ~0u;
DEVICE bool absent(float v) { return as_u32(v) == ABSENT; }
DEVICE bool absent(const float4& v) { return absent(v.x) || absent(v.y) || absent(v.z) || absent(v.w); }
DEVICE float present(float v) { return absent(v) ? as_float(0x7fffffffu) : v; }

// All blocks together: no number of these is there yet.
DEVICE void make_absent(float* from, u64 count) {
    for (u64 i = global_thread(); i < count; i += global_threads()) put(from + i, as_float(ABSENT));
}

// Those of some threads alone: this one is number `thread` of `threads`.
DEVICE void make_absent(float* from, u64 count, u32 thread, u32 threads) {
    for (u64 i = thread; i < count; i += threads) put(from + i, as_float(ABSENT));
}

// What a group of streams is told: the first of them, how many it has of at most `most`, and its part of the scratch region.
struct GroupArgs : Args {
    u32 stream, streams;
};
DEVICE GroupArgs group_args(const Args& all, u32 first, u32 most, u32 end, float* scratch) {
    GroupArgs a;
    (Args&)a = all;
    a.stream = first;
    a.streams = end - first < most ? end - first : most;
    a.scratch = scratch;
    return a;
}

// Whether a warp looks again, because a lane of it misses something. Lanes look together: apart, they would come apart
// from each other at what follows. Bounded as `wait_for` is.
DEVICE bool looks_again(const Args& a, bool missing, u32& polls, u32 code, bool& failed) {
    if (!ballot(missing) || failed) return false;
    if (polls++ < MOST_POLLS) return true;
    raise(a.counters, code);
    failed = true;
    return false;
}

// floor(a / b), for b > 0.
DEVICE int floor_div(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
