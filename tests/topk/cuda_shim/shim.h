// Enough of CUDA for g++ to run topk.cu on a CPU, one block after another.
//
// Default: every CUDA thread is a fiber, and a schedule chooses who goes on. Schedules are greedy by warp: a warp runs
// as far as it can before the next one starts, so that a missing barrier lets it read what others have not written
// yet (a schedule that goes round from thread to thread hides this). Inside a warp a lane also runs as far as it can.
// -DSHIM_THREADS: every CUDA thread is a thread, for ThreadSanitizer. Warp intrinsics exchange by relaxed atomics and so
// order no memory, as in CUDA; only the block barrier does.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using std::max;
using std::min;

#define __global__
#define __device__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct Index {
    unsigned x;
};
extern thread_local Index threadIdx;
extern Index blockIdx, blockDim, gridDim;
alignas(16) extern unsigned topk_shared[];

// What a lane hands to its warp and gets back: the values of all lanes.
const uint32_t *shim_exchange(uint32_t value);
void __syncthreads();

inline uint32_t __ballot_sync(uint32_t, bool flag) {
    const uint32_t *all = shim_exchange(flag);
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++) bits |= (all[i] & 1) << i;
    return bits;
}
template <class T>
T __shfl_sync(uint32_t, T value, int lane) {
    return (T)shim_exchange((uint32_t)value)[lane & 31];
}
template <class T>
T __shfl_xor_sync(uint32_t, T value, int bits) {
    return (T)shim_exchange((uint32_t)value)[(threadIdx.x & 31) ^ bits];
}
template <class T>
T __shfl_up_sync(uint32_t, T value, int distance) {
    const int lane = threadIdx.x & 31;
    return (T)shim_exchange((uint32_t)value)[lane >= distance ? lane - distance : lane];
}
inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }

#ifdef SHIM_THREADS
template <class T>
T atomicAdd(T *at, T value) {
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
template <class T>
T atomicMax(T *at, T value) {
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (old < value && !__atomic_compare_exchange_n(at, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}
#else
template <class T>
T atomicAdd(T *at, T value) {
    const T old = *at;
    *at = old + value;
    return old;
}
template <class T>
T atomicMax(T *at, T value) {
    const T old = *at;
    *at = max(old, value);
    return old;
}
#endif
