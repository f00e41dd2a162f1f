/* Streams audio through a trained network: samples of 32-bit floats in, samples out, in blocks of 64.
 *
 *     cc stream.c -I include -L target/release -l rnnc_c -o stream
 *     sox guitar.wav -t f32 -c 1 - | ./stream amplifier.rnn weights.safetensors | sox -t f32 -r 44100 -c 1 - out.wav
 *
 * The network has one input and one output of one unit each.
 */
#include "rnnc.h"
#include <stdio.h>

#define BLOCK 64

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: stream NETWORK.rnn WEIGHTS.safetensors < in.f32 > out.f32\n");
        return 2;
    }
    rnnc_session *session = rnnc_load(argv[1], argv[2], 1, BLOCK);
    if (!session) {
        fprintf(stderr, "stream: %s\n", rnnc_error());
        return 1;
    }
    if (rnnc_inputs(session) != 1 || rnnc_outputs(session) != 1 || rnnc_input_size(session, 0) != 1 ||
        rnnc_output_size(session, 0) != 1) {
        fprintf(stderr, "stream: the network must have one input and one output of one unit each\n");
        rnnc_free(session);
        return 1;
    }
    float in[BLOCK], out[BLOCK];
    size_t frames;
    while ((frames = fread(in, sizeof *in, BLOCK, stdin)) > 0) {
        const void *inputs[] = {in};
        float *outputs[] = {out};
        if (rnnc_run(session, frames, inputs, NULL, outputs) != 0) {
            fprintf(stderr, "stream: %s\n", rnnc_error());
            rnnc_free(session);
            return 1;
        }
        if (fwrite(out, sizeof *out, frames, stdout) != frames) {
            perror("stream");
            rnnc_free(session);
            return 1;
        }
    }
    rnnc_free(session);
    return 0;
}
