// topk.cu under g++: a kernel by name, its arguments as the pointers to bytes that cuLaunchKernel takes.
//
// -DSOURCE="…" names the source, topk.cu or a mutant of it.
#include "shim.h"

thread_local Index threadIdx;
Index blockIdx, blockDim, gridDim;
constexpr int SHARED_BYTES = 256 << 10;
alignas(16) unsigned topk_shared[SHARED_BYTES / 4 + 64];

#ifdef SHIM_THREADS
#include "threads.h"
#else
#include "fibers.h"
#endif

#include SOURCE

template <class... Arguments, size_t... I>
static std::function<void()> decode(void (*kernel)(Arguments...), void **arguments, std::index_sequence<I...>) {
    return [=] { kernel(*(Arguments *)arguments[I]...); };
}
template <class... Arguments>
static std::function<void()> decode(void (*kernel)(Arguments...), void **arguments) {
    return decode(kernel, arguments, std::index_sequence_for<Arguments...>());
}

// 0: done; 1: no such kernel; 2: threads wait for each other in vain; 3: wrote beyond its shared memory.
extern "C" int shim_launch(const char *name, int grid, int block, int shared_bytes, void **arguments, int schedule,
                           unsigned seed) {
    std::function<void()> kernel;
    const std::string wanted = name;
    if (wanted == "topk_plan") kernel = decode(topk_plan, arguments);
    else if (wanted == "topk_plan_masked") kernel = decode(topk_plan_masked, arguments);
    else if (wanted == "topk_warp_32") kernel = decode(topk_warp_32, arguments);
    else if (wanted == "topk_warp_16") kernel = decode(topk_warp_16, arguments);
    else if (wanted == "topk_block_32") kernel = decode(topk_block_32, arguments);
    else if (wanted == "topk_block_16") kernel = decode(topk_block_16, arguments);
    else return 1;
    blockDim.x = block;
    gridDim.x = grid;
    for (int i = 0; i < grid; i++) {
        blockIdx.x = i;
        // Shared memory starts with anything in it, and what lies behind it is not the block's.
        memset(topk_shared, 0xA5 + i, shared_bytes + 256);
        std::vector<unsigned> guard(64, topk_shared[0]);
        if (!run_block(kernel, block, schedule, seed + i)) return 2;
        if (memcmp((char *)topk_shared + shared_bytes, guard.data(), 256) != 0) return 3;
    }
    return 0;
}
