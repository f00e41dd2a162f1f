// What it costs blocks to wait for each other: an empty frame of a persistent loop, in microseconds.
//
//     nvcc -O3 -std=c++17 -arch=native -o synchronization synchronization.cu && ./synchronization
//
// One JSON object a line. Clusters need compute capability 9.0; where they are missing, or where 16 blocks of one do not
// fit, the line says so. Each time is that of many frames less that of half as many, so that no launch is in it.
#include <algorithm>
#include <cooperative_groups.h>
#include <cstdio>
#include <cstdlib>

constexpr int THREADS = 256, FRAMES = 8192, REPEATS = 7;

void check(cudaError_t result, const char *what) {
    if (result != cudaSuccess) {
        fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(result));
        exit(1);
    }
}

__global__ void block(int frames, unsigned *) {
    for (int frame = 0; frame < frames; frame++) __syncthreads();
}

__global__ void cluster(int frames, unsigned *) {
#if __CUDA_ARCH__ >= 900
    for (int frame = 0; frame < frames; frame++) {
        asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
    }
#endif
}

// Each block counts itself in; all wait for the last.
__global__ void grid_counter(int frames, unsigned *counter) {
    for (int frame = 0; frame < frames; frame++) {
        __syncthreads();
        if (threadIdx.x == 0) {
            asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
            const unsigned all = (frame + 1u) * gridDim.x;
            unsigned seen;
            // All blocks are resident: the launch is cooperative.
            do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
            while (seen < all);
        }
        __syncthreads();
    }
}

// The same where no more is waited for than what one warp reads: 8 counters, a warp waits at its own.
__global__ void grid_counters(int frames, unsigned *counters) {
    const unsigned group = blockIdx.x % 8, warp = threadIdx.x / 32;
    const unsigned members = (gridDim.x - warp + 7) / 8;
    for (int frame = 0; frame < frames; frame++) {
        __syncthreads();
        if (threadIdx.x == 0)
            asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counters + group * 32) : "memory");
        if (threadIdx.x % 32 == 0) {
            unsigned seen;
            do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counters + warp * 32) : "memory");
            while (seen < (frame + 1u) * members);
        }
        __syncwarp();
    }
}

// Where numbers of each frame begin, and one that is not there yet.
constexpr unsigned LINES = 8, NUMBERS = 8, ABSENT = ~0u;
__device__ unsigned *numbers(unsigned *counters, int frame) {
    return counters + LINES * 32 + (size_t)frame * gridDim.x * NUMBERS;
}

// 8 numbers of each block for all blocks, each thread some of them, by counters: a warp waits at that of the blocks whose
// numbers it reads.
__global__ void grid_counted(int frames, unsigned *counters) {
    __shared__ uint4 all[2][2 * THREADS];
    const unsigned group = blockIdx.x * LINES / gridDim.x, last = gridDim.x * NUMBERS / 4 - 1;
    unsigned value = 1;
    for (int frame = 0; frame < frames; frame++) {
        unsigned *const own = numbers(counters, frame);
        __syncthreads();
        if (threadIdx.x < NUMBERS) own[blockIdx.x * NUMBERS + threadIdx.x] = value;
        if (threadIdx.x < 32) __syncwarp();
        if (threadIdx.x == 0)
            asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counters + group * 32) : "memory");
        for (unsigned at = threadIdx.x; at <= last; at += THREADS) {
            const unsigned whose = at * 4 / NUMBERS * LINES / gridDim.x;
            const unsigned members = ((whose + 1) * gridDim.x + LINES - 1) / LINES - (whose * gridDim.x + LINES - 1) / LINES;
            unsigned seen;
            do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counters + whose * 32) : "memory");
            while (__any_sync(__activemask(), seen < (frame + 1u) * members));
            uint4 x;
            asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(own + at * 4) : "memory");
            all[frame & 1][at] = x;
        }
        __syncthreads();
        value = (all[frame & 1][threadIdx.x % last].x + 1) & 0xffff;
    }
}

// The same without counters: a number is its own flag. Each frame has its own numbers, and all are absent before.
__global__ void grid_posted(int frames, unsigned *counters) {
    __shared__ uint4 all[2][2 * THREADS];
    const unsigned last = gridDim.x * NUMBERS / 4 - 1;
    unsigned value = 1;
    for (int frame = 0; frame < frames; frame++) {
        unsigned *const own = numbers(counters, frame);
        __syncthreads();
        if (threadIdx.x < NUMBERS)
            asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(own + blockIdx.x * NUMBERS + threadIdx.x), "r"(value) : "memory");
        for (unsigned at = threadIdx.x; at <= last; at += THREADS) {
            uint4 x;
            do asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                            : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(own + at * 4) : "memory");
            // A warp looks together.
            while (__any_sync(__activemask(), x.x == ABSENT || x.y == ABSENT || x.z == ABSENT || x.w == ABSENT));
            all[frame & 1][at] = x;
        }
        __syncthreads();
        value = (all[frame & 1][threadIdx.x % last].x + 1) & 0xffff;
    }
}

__global__ void grid_sync(int frames, unsigned *) {
    for (int frame = 0; frame < frames; frame++) cooperative_groups::this_grid().sync();
}

using Kernel = void (*)(int, unsigned *);

// Milliseconds of one launch, or a negative number if it cannot be resident.
float launch(Kernel kernel, int blocks, int cluster_size, int frames, unsigned *counters) {
    cudaLaunchAttribute attribute[1];
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks, config.blockDim = THREADS, config.attrs = attribute, config.numAttrs = blocks > 1;
    if (cluster_size > 1) {
        attribute[0].id = cudaLaunchAttributeClusterDimension;
        attribute[0].val.clusterDim.x = cluster_size, attribute[0].val.clusterDim.y = attribute[0].val.clusterDim.z = 1;
        if (cluster_size > 8)
            check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "large clusters");
        int fit = 0;
        if (cudaOccupancyMaxActiveClusters(&fit, kernel, &config) != cudaSuccess || fit < 1) {
            cudaGetLastError();
            return -1;
        }
    } else {
        attribute[0].id = cudaLaunchAttributeCooperative, attribute[0].val.cooperative = 1;
    }
    check(cudaMemset(counters, 0, LINES * 128), "clearing");
    check(cudaMemset(counters + LINES * 32, 0xff, (size_t)frames * blocks * NUMBERS * 4), "making absent");
    cudaEvent_t begin, end;
    check(cudaEventCreate(&begin), "an event"), check(cudaEventCreate(&end), "an event");
    check(cudaEventRecord(begin), "an event");
    check(cudaLaunchKernelEx(&config, kernel, frames, counters), "a launch");
    check(cudaEventRecord(end), "an event");
    check(cudaEventSynchronize(end), "a kernel");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "an event");
    check(cudaEventDestroy(begin), "an event"), check(cudaEventDestroy(end), "an event");
    return ms;
}

void measure(const char *name, Kernel kernel, int blocks, int cluster_size, unsigned *counters) {
    float times[REPEATS];
    launch(kernel, blocks, cluster_size, FRAMES, counters);
    for (float &time : times) {
        const float half = launch(kernel, blocks, cluster_size, FRAMES / 2, counters);
        time = (launch(kernel, blocks, cluster_size, FRAMES, counters) - half) * 1e3f / (FRAMES / 2);
        if (half < 0) {
            printf("{\"variant\": \"%s\", \"blocks\": %d, \"us\": null}\n", name, blocks);
            return;
        }
    }
    std::sort(times, times + REPEATS);
    printf("{\"variant\": \"%s\", \"blocks\": %d, \"us\": %.4f, \"low\": %.4f, \"high\": %.4f}\n", name, blocks,
           times[REPEATS / 2], times[0], times[REPEATS - 1]);
}

int main() {
    int multiprocessors = 0;
    check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0), "the device");
    unsigned *counters;
    check(cudaMalloc(&counters, LINES * 128 + (size_t)FRAMES * multiprocessors * NUMBERS * 4), "memory");
    measure("block", block, 1, 1, counters);
    measure("cluster of 8", cluster, 8, 8, counters);
    measure("cluster of 16", cluster, 16, 16, counters);
    measure("grid, a counter", grid_counter, multiprocessors, 1, counters);
    measure("grid, 8 counters", grid_counters, multiprocessors, 1, counters);
    measure("grid, 8 counters, 8 numbers of each block", grid_counted, multiprocessors, 1, counters);
    measure("grid, 8 numbers of each block, posted", grid_posted, multiprocessors, 1, counters);
    measure("grid, cooperative groups", grid_sync, multiprocessors, 1, counters);
}
