// What stands between a program's memory and arrays of other shapes: copies of numbers with strides, and the clock of
// resets. These kernels are the same for all programs.

#ifndef BORDER_KERNEL
#define BORDER_KERNEL(Type, name) extern "C" __global__ void name(const __grid_constant__ Type a)
#endif

// `From` and `To` of borders.rs.
enum { FROM_F32 = 0, FROM_F64 = 1, FROM_I64 = 2, FROM_I32 = 3, FROM_NOTHING = 4 };
enum { TO_F32 = 0, TO_F64 = 1, TO_I64 = 2, ADD_TO_F32 = 3, ADD_TO_F64 = 4 };

// `ArrayMove` of borders.rs.
struct Move {
    const void* from;
    void* to;
    long long from_strides[3], to_strides[3];  // in elements
    u32 shape[3];
    u32 from_kind, to_kind;
    u32 limit;        // symbols: how many there are
    u32* flag;        // where a symbol beyond them is a fault: of this code
    u32 code;
    u32 depth;        // a state of so many frames, if steps since reset are told
    const u32* since; // of its last frame, in each stream: frames before that reset are the start, of one of these
    const float* start;
    u32 bits, unused;
};

// Places in `run` of a tape, which no update has: whose it is, and of how many frames.
enum { RUN_PROGRAM = 14, RUN_FRAMES = 15 };

// `TapeCheck` of borders.rs.
struct TapeCheck {
    const u64* run;   // of a tape; none if null
    u64 program, frames;
    u32* flag;        // where it is raised that these are others, as a fault of this code
    u32 code, unused;
};

// `Moves` of borders.rs.
struct Moves {
    u32 count, unused;
    TapeCheck check;
    Move moves[24];
};

// Whether frame j of a state of `depth` frames, [depth, streams], lies before its stream's last reset.
DEVICE bool is_start(const u32* since, u32 depth, u32 j, u32 stream) {
    return constant(since + stream) + 1u < depth - j;
}

// A symbol, or none: a negative one is none, one beyond all is a fault, and none.
DEVICE float symbol(const Move& move, long long value) {
    if (value >= (long long)move.limit && move.flag) raise(move.flag, move.code);
    return as_float(value < 0 || value >= (long long)move.limit ? ~0u : (u32)value);
}

// No move writes what another reads or writes.
BORDER_KERNEL(Moves, rnnc_moves) {
    const TapeCheck& check = a.check;
    if (check.run && global_thread() == 0) {
        const bool is_its = check.run[RUN_PROGRAM] == check.program && check.run[RUN_FRAMES] == check.frames;
        if (!is_its) raise(check.flag, check.code);
    }
    for (u32 m = 0; m < a.count; ++m) {
        const Move& move = a.moves[m];
        const u64 count = (u64)move.shape[0] * move.shape[1] * move.shape[2];
        for (u64 at = global_thread(); at < count; at += global_threads()) {
            u64 row;
            u32 column;
            if (count >> 32) {
                row = at / move.shape[2];
                column = (u32)(at % move.shape[2]);
            } else {
                row = (u32)at / move.shape[2];
                column = (u32)at % move.shape[2];
            }
            const u32 outer = (u32)(row / move.shape[1]), inner = (u32)(row % move.shape[1]);
            const long long* s = move.from_strides;
            const long long from = outer * s[0] + inner * s[1] + column * s[2];
            s = move.to_strides;
            const long long to = outer * s[0] + inner * s[1] + column * s[2];
            float v;
            if (move.since && is_start(move.since, move.depth, outer, inner)) {
                v = move.start ? constant(move.start + column) : as_float(move.bits);
            } else {
                switch (move.from_kind) {
                    case FROM_F32: v = constant((const float*)move.from + from); break;
                    case FROM_F64: v = (float)((const double*)move.from)[from]; break;
                    case FROM_I64: v = symbol(move, ((const long long*)move.from)[from]); break;
                    case FROM_I32: v = symbol(move, (int)constant((const u32*)move.from + from)); break;
                    default: v = 0.f;
                }
            }
            float* single = (float*)move.to + to;
            switch (move.to_kind) {
                case TO_F32: put(single, v); break;
                case TO_F64: ((double*)move.to)[to] = (double)v; break;
                case TO_I64: ((long long*)move.to)[to] = (long long)(int)as_u32(v); break;
                case ADD_TO_F32: put(single, own(single) + v); break;
                default: ((double*)move.to)[to] += (double)v;
            }
        }
    }
}

// `StartGradient` of borders.rs.
struct StartGradient {
    const void* from;            // gradients of a state, [depth, streams, units]
    long long strides[3];        // in elements
    u32 shape[3];
    u32 is_f64;
    const u32* since;            // of its last frame, in each stream
    float* to;                   // where those are added that are of the start, unit by unit
};

// A thread a unit: the order of the sum is always the same.
BORDER_KERNEL(StartGradient, rnnc_start_gradient) {
    const u32 depth = a.shape[0], streams = a.shape[1];
    for (u64 unit = global_thread(); unit < a.shape[2]; unit += global_threads()) {
        float sum = 0.f;
        for (u32 j = 0; j < depth; ++j) {
            for (u32 stream = 0; stream < streams; ++stream) {
                if (!is_start(a.since, depth, j, stream)) continue;
                const long long at = j * a.strides[0] + stream * a.strides[1] + (long long)unit * a.strides[2];
                sum += a.is_f64 ? (float)((const double*)a.from)[at] : constant((const float*)a.from + at);
            }
        }
        put(a.to + unit, own(a.to + unit) + sum);
    }
}

// `Clock` of borders.rs.
struct Clock {
    const unsigned char* resets;     // not 0: the frame begins a sequence; none if null
    long long reset_strides[2];      // from frame to frame, from stream to stream
    u32* since_reset;                // [window, streams], as all kernels read it
    u32* ahead;
    u64* run;
    u64 seed, program;
    u64 first_frame;                 // the number of the first new frame
    const u64* seed_at;              // where the seed is, if it is not `seed`
    u32 streams, window, first;      // the frames first .. window are new
    u32 age;                         // of each stream at the first of them, if that is no reset
};

DEVICE u32 lowest(u32 bits) { return count_ones((bits & (0u - bits)) - 1u); }
DEVICE u32 highest(u32 bits) {
    bits |= bits >> 1;
    bits |= bits >> 2;
    bits |= bits >> 4;
    bits |= bits >> 8;
    bits |= bits >> 16;
    return count_ones(bits) - 1u;
}

// A warp a stream, 32 frames at a time: forward the frames since the last reset, then back those until the next.
BORDER_KERNEL(Clock, rnnc_clock) {
    if (global_thread() == 0) {
        a.run[RUN_BEFORE] = a.first_frame - a.first;
        a.run[RUN_SEED] = a.seed;
        if (a.seed_at) a.run[RUN_SEED] = *a.seed_at;
        a.run[RUN_PROGRAM] = a.program;
        a.run[RUN_FRAMES] = a.window - a.first;
    }
    const u32 lane = thread() % 32u, frames = a.window - a.first;
    const u32 last = frames ? (frames - 1u) / 32u : 0u;
    for (u64 stream = global_thread() / 32u; stream < a.streams; stream += global_threads() / 32u) {
        u32 next = a.age;
        for (u32 chunk = 0; chunk <= last; ++chunk) {
            const u32 frame = chunk * 32u + lane;
            const bool is_reset = frame < frames && a.resets &&
                a.resets[(long long)frame * a.reset_strides[0] + (long long)stream * a.reset_strides[1]];
            const u32 before = ballot(is_reset) & ((2u << lane) - 1u);
            const u32 since = before ? lane - highest(before) : next + lane;
            if (frame < frames) a.since_reset[(u64)(a.first + frame) * a.streams + stream] = since;
            next = as_u32(shuffle(as_float(since), 31u)) + 1u;
        }
        // From the chunk's end to the next reset, or to the window's end.
        int after = (int)frames - (int)(last + 1u) * 32;
        for (u32 chunk = last + 1u; chunk-- > 0u;) {
            const u32 frame = chunk * 32u + lane;
            // Of a stream that begins with this call, the first frame is a reset too.
            const bool is_reset = frame < frames &&
                a.since_reset[(u64)(a.first + frame) * a.streams + stream] == 0u;
            const u32 votes = ballot(is_reset), behind = votes & ~((2u << lane) - 1u);
            if (frame < frames) {
                a.ahead[(u64)(a.first + frame) * a.streams + stream] =
                    behind ? lowest(behind) - lane : (u32)(32 + after - (int)lane);
            }
            after = votes ? (int)lowest(votes) : 32 + after;
        }
    }
}

// `ClockBefore` of borders.rs.
struct ClockBefore {
    const u32* from;                 // since_reset of a window
    u32* since_reset;                // [2 depth, streams], of the frames around that window's first
    u32* ahead;
    u64* run;
    u32 streams, window, first, depth;
};

// Whether a sequence begins in a frame around the first.
DEVICE bool begins(const ClockBefore& a, u32 frame, u32 stream) {
    // The sequence to which the first frame belongs, and those within the window.
    if (constant(a.from + (u64)a.first * a.streams + stream) == a.depth - frame) return true;
    if (frame < a.depth || a.first + (frame - a.depth) >= a.window) return false;
    return constant(a.from + (u64)(a.first + (frame - a.depth)) * a.streams + stream) == 0u;
}

BORDER_KERNEL(ClockBefore, rnnc_clock_before) {
    const u64 rows = 2ull * a.depth * a.streams;
    for (u64 row = global_thread(); row < rows; row += global_threads()) {
        const u32 frame = (u32)(row / a.streams), stream = (u32)(row % a.streams), end = 2u * a.depth;
        u32 since = 0, ahead = 1;
        while (since < frame && !begins(a, frame - since, stream)) ++since;
        while (frame + ahead < end && !begins(a, frame + ahead, stream)) ++ahead;
        a.since_reset[row] = since;
        a.ahead[row] = ahead;
        if (row == 0) a.run[RUN_BEFORE] = 0;
    }
}
