// A block of CUDA threads as fibers on one thread.
#pragma once

#include "shim.h"

enum class Wait { nothing, warp, block, done };

struct Fiber {
    void *stack_pointer;
    Wait wait;
    char stack[32768];
};

// Save the callee-saved registers and the stack pointer, go on with another stack.
extern "C" void shim_switch(void **from, void *to);
#if defined(__x86_64__)
asm(R"(
.text
.globl shim_switch
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
const int SAVED = 6;
#else
#error "the fiber shim knows x86-64 only"
#endif

static std::function<void()> *body;
static std::unique_ptr<Fiber[]> fibers;
static void *scheduler;
static unsigned current;
static uint32_t handed[32][32], given[32][32];

static void suspend(Wait wait) {
    fibers[current].wait = wait;
    shim_switch(&fibers[current].stack_pointer, scheduler);
}

static void fiber_main() {
    (*body)();
    suspend(Wait::done);
    std::abort();
}

const uint32_t *shim_exchange(uint32_t value) {
    const unsigned warp = current / 32;
    handed[warp][current % 32] = value;
    suspend(Wait::warp);
    return given[warp];
}

void __syncthreads() { suspend(Wait::block); }

static void resume(unsigned thread) {
    current = thread;
    threadIdx.x = thread;
    fibers[thread].wait = Wait::nothing;
    shim_switch(&scheduler, fibers[thread].stack_pointer);
}

// Run a warp until all its lanes are at the block barrier or done. False: its lanes wait for different things.
static bool run_warp(unsigned warp, bool backwards) {
    for (;;) {
        for (unsigned i = 0; i < 32; i++) {
            const unsigned thread = 32 * warp + (backwards ? 31 - i : i);
            if (fibers[thread].wait == Wait::nothing) resume(thread);
        }
        const Wait wait = fibers[32 * warp].wait;
        for (unsigned lane = 1; lane < 32; lane++)
            if (fibers[32 * warp + lane].wait != wait) return false;
        if (wait != Wait::warp) return true;
        std::copy(handed[warp], handed[warp] + 32, given[warp]);
        for (unsigned lane = 0; lane < 32; lane++) fibers[32 * warp + lane].wait = Wait::nothing;
    }
}

// Run one block. schedule: 0 first warp first, 1 last warp first, 2 a new order at every barrier.
static bool run_block(std::function<void()> &kernel, unsigned threads, int schedule, unsigned seed) {
    static unsigned allocated = 0;
    if (allocated < threads) {
        fibers.reset(new Fiber[threads]);
        allocated = threads;
    }
    body = &kernel;
    for (unsigned i = 0; i < threads; i++) {
        // The stack that shim_switch expects: zeros for the registers, then where to return to.
        uintptr_t top = ((uintptr_t)fibers[i].stack + sizeof fibers[i].stack) & ~(uintptr_t)15;
        void **stack = (void **)top - 2;
        *stack = (void *)fiber_main;
        for (int saved = 0; saved < SAVED; saved++) *--stack = nullptr;
        fibers[i].stack_pointer = stack;
        fibers[i].wait = Wait::nothing;
    }
    const unsigned warps = threads / 32;
    std::vector<unsigned> order(warps);
    for (unsigned i = 0; i < warps; i++) order[i] = schedule == 1 ? warps - 1 - i : i;
    for (;;) {
        if (schedule == 2)
            for (unsigned i = warps; i > 1; i--) {
                seed = seed * 1664525u + 1013904223u;
                std::swap(order[i - 1], order[(seed >> 8) % i]);
            }
        bool all_done = true, all_wait = true;
        for (unsigned warp : order) {
            if (fibers[32 * warp].wait == Wait::done) {
                all_wait = false;
                continue;
            }
            if (!run_warp(warp, schedule == 1)) return false;
            (fibers[32 * warp].wait == Wait::done ? all_wait : all_done) = false;
        }
        if (all_done) return true;
        if (!all_wait) return false;  // some wait for threads that have ended
        for (unsigned i = 0; i < threads; i++) fibers[i].wait = Wait::nothing;
    }
}
