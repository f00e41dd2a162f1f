/* Recurrent networks from C: load a network with its weights, and run it as frames arrive.
 *
 * Made by cbindgen of crates/rnnc-c/src/lib.rs: do not edit.
 */

#ifndef RNNC_H
#define RNNC_H

#include <stddef.h>
#include <stdint.h>

/*
 A network with its weights and its state.
 */
typedef struct rnnc_session rnnc_session;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 What went wrong in the last call on this thread that failed. Valid until the next one fails.
 */
const char *rnnc_error(void);

/*
 Loads a network and its weights (a weights file or a checkpoint), to run `streams` streams side by side on the calling thread,
 at most `block` frames at a time: 1 if each frame must be answered before the next, more where blocks arrive. Null if that
 fails.

 # Safety
 Both paths are strings that end with a 0.
 */
rnnc_session *rnnc_load(const char *network,
                        const char *weights,
                        size_t streams,
                        size_t block);

/*
 Ends a session; null is ignored.

 # Safety
 It is of [`rnnc_load`], and not used again.
 */
void rnnc_free(rnnc_session *session);

/*
 How many inputs the network has.

 # Safety
 The session is of [`rnnc_load`].
 */
size_t rnnc_inputs(const rnnc_session *session);

/*
 How many outputs the network has.

 # Safety
 The session is of [`rnnc_load`].
 */
size_t rnnc_outputs(const rnnc_session *session);

/*
 The name of an input; null if there is none.

 # Safety
 The session is of [`rnnc_load`].
 */
const char *rnnc_input_name(const rnnc_session *session, size_t input);

/*
 The name of an output; null if there is none.

 # Safety
 The session is of [`rnnc_load`].
 */
const char *rnnc_output_name(const rnnc_session *session, size_t output);

/*
 Numbers of an input in a frame of a stream, N; 0 for an input of symbols, and where there is none.

 # Safety
 The session is of [`rnnc_load`].
 */
size_t rnnc_input_size(const rnnc_session *session, size_t input);

/*
 How many symbols an input has; 0 for an input of numbers, and where there is none.

 # Safety
 The session is of [`rnnc_load`].
 */
size_t rnnc_input_symbols(const rnnc_session *session, size_t input);

/*
 Numbers of an output in a frame of a stream, N; 0 where there is none.

 # Safety
 The session is of [`rnnc_load`].
 */
size_t rnnc_output_size(const rnnc_session *session, size_t output);

/*
 Runs `frames` frames, one or more, going on from the last call. Gives 0, or -1 if it fails; then nothing has run.

 `inputs` has a pointer for each input: to `[frames, streams, N]` numbers (`float`), or `[frames, streams]` symbols
 (`uint32_t`; `UINT32_MAX`: none). `outputs` has one for each output: to room for `[frames, streams, N]` numbers. `resets` is
 null, or `[frames, streams]` bytes: where one is not 0, that stream begins anew in that frame.

 Once the first call has been through, it allocates nothing (with up to 16 inputs, up to 16 outputs, and resets of up to `block`
 frames; but for the words of an error), waits for nobody and makes no system call: a real-time thread may call it.

 # Safety
 The session is of [`rnnc_load`] and no other thread uses it meanwhile; the arrays are as large as that, and no output lies
 in another array.
 */
int rnnc_run(rnnc_session *session,
             size_t frames,
             const void *const *inputs,
             const uint8_t *resets,
             float *const *outputs);

/*
 Begins all streams anew.

 # Safety
 The session is of [`rnnc_load`] and no other thread uses it meanwhile.
 */
void rnnc_reset(rnnc_session *session);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RNNC_H */
