// A block of CUDA threads as threads, for ThreadSanitizer.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <thread>

#include "shim.h"

static pthread_barrier_t block_barrier;
static std::atomic<uint32_t> handed[32][2][32];
static std::atomic<uint32_t> arrived[32];
static thread_local uint32_t rounds, given[32];

// Two sets of slots: a lane cannot be two rounds ahead of another, since every round waits for all lanes.
const uint32_t *shim_exchange(uint32_t value) {
    const unsigned warp = threadIdx.x / 32, set = rounds++ & 1;
    handed[warp][set][threadIdx.x & 31].store(value, std::memory_order_relaxed);
    // On x86 the hardware keeps these in order; no edge for ThreadSanitizer, and none in CUDA.
    asm volatile("" ::: "memory");
    arrived[warp].fetch_add(1, std::memory_order_relaxed);
    while (arrived[warp].load(std::memory_order_relaxed) < 32 * rounds) sched_yield();
    asm volatile("" ::: "memory");
    for (int i = 0; i < 32; i++) given[i] = handed[warp][set][i].load(std::memory_order_relaxed);
    return given;
}

void __syncthreads() { pthread_barrier_wait(&block_barrier); }

static bool run_block(std::function<void()> &kernel, unsigned threads, int, unsigned) {
    pthread_barrier_init(&block_barrier, nullptr, threads);
    for (auto &count : arrived) count = 0;
    std::vector<std::thread> all;
    for (unsigned i = 0; i < threads; i++)
        all.emplace_back([&kernel, i] {
            threadIdx.x = i;
            rounds = 0;
            kernel();
        });
    for (auto &thread : all) thread.join();
    pthread_barrier_destroy(&block_barrier);
    return true;
}
