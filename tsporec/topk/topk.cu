// Top-k of every segment on a GPU: selection and stable compaction in one pass.
//
// The file includes nothing, so NVRTC compiles it anywhere and g++ runs it through tests/topk/cuda_shim.
//
// Two kernels share the work. A warp takes a segment of up to WARP_TOKENS and holds its keys in registers. A block takes
// a longer segment. Both find the key of the last token kept, from the highest bits down (a radix descent). Then they
// count, in text order, the keys above it and equal to it. The counts give every kept token its place without a sort.
//
// Scores are read as 32 or 16 bits; `infinity` distinguishes float16 from bfloat16. Keys order as the scores do:
// forbidden 0 < NaN 1 < numbers < protected (all ones). -0 and +0 share a key.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;
typedef long long i64;

#define ALL_LANES 0xffffffffu
#define WARP_TOKENS 256
#define ITEMS (WARP_TOKENS / 32)
#define BINS 256

// Shared memory of a block: the histogram, one step of the descent, the counts of each warp, then cached keys.
#define STEP BINS
#define TOTALS (STEP + 4)
#define CACHE (TOTALS + 64)

// Without this the compiler copies a loop for each value of the condition tested in it, and spills registers.
#define KEEP_BRANCH(condition) asm volatile("" : "+r"(condition))

struct Segments {
    const int *offsets;  // [segments + 1], cu_seqlens
    const int *counts;   // [segments + 1]: how many tokens segment i keeps, at i + 1
    int segments;
    int tokens;
};

template <class Score>
struct Tokens {
    const Score *scores;
    const u8 *must;    // protected, or null
    const u8 *banned;  // forbidden, or null
    u32 infinity;

    __device__ __forceinline__ u32 key(int t) const {
        const u32 sign = 1u << (8 * sizeof(Score) - 1);
        if (banned && banned[t]) return 0;
        if (must && must[t]) return sign | (sign - 1);
        const u32 bits = scores[t];
        const u32 magnitude = bits & (sign - 1);
        if (magnitude > infinity) return 1;
        if (magnitude == 0) return sign;
        return bits & sign ? (sign - 1) ^ magnitude : bits | sign;
    }
};

struct Output {
    const int *new_offsets;  // [segments + 1], or null where only the mask is wanted
    i64 *kept;               // kept positions, or null if the mask is wanted
    u8 *mask;                // [tokens], zero before

    __device__ __forceinline__ void write(int source, int target) const {
        int wants_mask = kept == 0;
        KEEP_BRANCH(wants_mask);
        if (wants_mask) mask[source] = 1;
        else kept[target] = source;
    }
};

// Bounds of a segment. They are clamped to [0, tokens], so wrong offsets never read out of bounds.
__device__ __forceinline__ void bounds(const int *offsets, int tokens, int segment, int *start, int *stop) {
    *start = min(max(offsets[segment], 0), tokens);
    *stop = max(min(offsets[segment + 1], tokens), *start);
}

__device__ __forceinline__ u32 high_bits(u32 key, int shift) { return shift < 32 ? key >> shift : 0; }

__device__ __forceinline__ u32 lanes_before(int lane) { return (1u << lane) - 1; }

// --- Planning: how many tokens each segment keeps, and which segments are long.

// status: [0] number of long segments, [1] 1 if the offsets are wrong, [2] length of the longest long segment.
// All lanes of a warp call this, each with its own segment. `valid` is false for a lane without a segment.
__device__ __forceinline__ void plan(bool valid, const int *offsets, int segment, int segments, int tokens, int k,
                                     int must, int banned, int *counts, int *long_segments, int *status) {
    const int lane = threadIdx.x & 31;
    int start = 0, stop = 0;
    if (valid) {
        bounds(offsets, tokens, segment, &start, &stop);
        counts[segment + 1] = min(max(k, must), stop - start - banned);
        const bool wrong = offsets[segment] != start || offsets[segment + 1] != stop ||
                           (segment == 0 && start != 0) || (segment == segments - 1 && stop != tokens);
        if (wrong) atomicMax(&status[1], 1);
    }
    int longest = stop - start;
    const bool is_long = longest > WARP_TOKENS;
    const u32 ballot = __ballot_sync(ALL_LANES, is_long);
    if (!ballot) return;
    for (int distance = 16; distance; distance >>= 1)
        longest = max(longest, __shfl_xor_sync(ALL_LANES, longest, distance));
    int place = 0;
    if (lane == 0) {
        place = atomicAdd(&status[0], __popc(ballot));
        atomicMax(&status[2], longest);
    }
    place = __shfl_sync(ALL_LANES, place, 0);
    if (is_long) long_segments[place + __popc(ballot & lanes_before(lane))] = segment;
}

// One thread for each segment. The caller zeroes counts[0] and status.
extern "C" __global__ void __launch_bounds__(256)
    topk_plan(const int *offsets, const int *k, int segments, int tokens, int *counts, int *long_segments, int *status) {
    const int segment = blockIdx.x * blockDim.x + threadIdx.x;
    const bool valid = segment < segments;
    plan(valid, offsets, segment, segments, tokens, valid ? max(k[segment], 0) : 0, 0, 0, counts, long_segments, status);
}

// One warp for each segment, which counts the segment's masks.
extern "C" __global__ void __launch_bounds__(256)
    topk_plan_masked(const int *offsets, const int *k, const u8 *must, const u8 *banned, int segments, int tokens,
                     int *counts, int *long_segments, int *status) {
    const int segment = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    const int lane = threadIdx.x & 31;
    if (segment >= segments) return;
    int start, stop, musts = 0, bans = 0;
    bounds(offsets, tokens, segment, &start, &stop);
    for (int i = start; i < stop; i += 32) {
        const int t = i + lane;
        const bool is_banned = banned && t < stop && banned[t];
        const bool is_must = must && t < stop && must[t] && !is_banned;
        bans += __popc(__ballot_sync(ALL_LANES, is_banned));
        musts += __popc(__ballot_sync(ALL_LANES, is_must));
    }
    plan(lane == 0, offsets, segment, segments, tokens, max(k[segment], 0), musts, bans, counts, long_segments, status);
}

// --- One warp for each segment: one bit at a time, by ballots, without shared memory or atomics.

template <class Score>
__device__ __forceinline__ void warp_segment(const Segments &in, const Tokens<Score> &tokens, const Output &out) {
    const int segment = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    const int lane = threadIdx.x & 31;
    if (segment >= in.segments) return;
    int start, stop;
    bounds(in.offsets, in.tokens, segment, &start, &stop);
    const int length = stop - start;
    int needed = in.counts[segment + 1];
    if (length > WARP_TOKENS || needed == 0) return;

    u32 keys[ITEMS];
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int t = start + 32 * i + lane;
        keys[i] = t < stop ? tokens.key(t) : 0;
    }

    // Candidates share the bits of `prefix` from `shift` up. All keys above them and `needed` of them are kept.
    // A lane beyond the end holds 0, and the bit that is tested is never set in 0.
    u32 prefix = 0;
    int shift = 8 * sizeof(Score), candidates = length;
    while (shift > 0 && candidates != needed) {
        shift--;
        const u32 wanted = (prefix >> shift) | 1;
        int ones = 0;
#pragma unroll
        for (int i = 0; i < ITEMS; i++)
            if (32 * i < length) ones += __popc(__ballot_sync(ALL_LANES, keys[i] >> shift == wanted));
        if (ones >= needed) {
            prefix |= 1u << shift;
            candidates = ones;
        } else {
            needed -= ones;
            candidates -= ones;
        }
    }

    const u32 threshold = high_bits(prefix, shift);
    const int base = out.new_offsets ? out.new_offsets[segment] : 0;
    int above = 0, equal = 0;
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        if (32 * i >= length) continue;
        const int t = start + 32 * i + lane;
        const u32 bits = high_bits(keys[i], shift);
        const bool is_above = t < stop && bits > threshold, is_equal = t < stop && bits == threshold;
        const u32 aboves = __ballot_sync(ALL_LANES, is_above), equals = __ballot_sync(ALL_LANES, is_equal);
        const int equals_before = equal + __popc(equals & lanes_before(lane));
        if (is_above || (is_equal && equals_before < needed))
            out.write(t, base + above + __popc(aboves & lanes_before(lane)) + min(equals_before, needed));
        above += __popc(aboves);
        equal += __popc(equals);
    }
}

// --- One block for each segment: eight bits at a time, by a histogram in shared memory.

template <class Score>
__device__ __forceinline__ void block_segment(const Segments &in, const Tokens<Score> &tokens, const Output &out,
                                              int segment, int cache_tokens) {
    extern __shared__ u32 topk_shared[];
    u32 *const histogram = topk_shared, *const step = topk_shared + STEP, *const totals = topk_shared + TOTALS;
    Score *const cache = (Score *)(topk_shared + CACHE);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    int start, stop;
    bounds(in.offsets, in.tokens, segment, &start, &stop);
    const int length = stop - start;
    int needed = in.counts[segment + 1];
    if (needed == 0) return;

    const bool cached = length <= cache_tokens;
    for (int i = threadIdx.x; i < BINS; i += blockDim.x) histogram[i] = 0;
    if (cached)
        for (int i = threadIdx.x; i < length; i += blockDim.x) cache[i] = (Score)tokens.key(start + i);
    __syncthreads();  // the histogram is zero, the keys are there

    u32 prefix = 0;
    int shift = 8 * sizeof(Score), candidates = length;
    while (shift > 0 && candidates != needed) {
        for (int i = threadIdx.x; i < length; i += blockDim.x) {
            const u32 key = cached ? cache[i] : tokens.key(start + i);
            if (high_bits(key, shift) == high_bits(prefix, shift)) atomicAdd(&histogram[key >> (shift - 8) & (BINS - 1)], 1u);
        }
        __syncthreads();  // every candidate is counted
        shift -= 8;
        if (warp == 0) {
            // Lane 0 holds the eight highest digits. Each lane clears its bins for the next round.
            u32 bins[BINS / 32], sum = 0;
#pragma unroll
            for (int i = 0; i < BINS / 32; i++) {
                u32 *const bin = &histogram[BINS - 1 - (lane * (BINS / 32) + i)];
                sum += bins[i] = *bin;
                *bin = 0;
            }
            u32 through = sum;
            for (int distance = 1; distance < 32; distance <<= 1) {
                const u32 left = __shfl_up_sync(ALL_LANES, through, distance);
                if (lane >= distance) through += left;
            }
            u32 before = through - sum;
            if (before < (u32)needed && (u32)needed <= through) {
                bool found = false;
#pragma unroll
                for (int i = 0; i < BINS / 32; i++) {
                    if (!found && before + bins[i] >= (u32)needed) {
                        found = true;
                        step[0] = BINS - 1 - (lane * (BINS / 32) + i);
                        step[1] = needed - before;
                        step[2] = bins[i];
                    }
                    before += bins[i];
                }
            }
        }
        __syncthreads();  // the digit is found, the histogram is zero again
        prefix |= step[0] << shift;
        needed = step[1];
        candidates = step[2];
    }

    // Each warp counts and then writes one run of the segment.
    const u32 threshold = high_bits(prefix, shift);
    const int run = (length + 32 * warps - 1) / (32 * warps) * 32;
    const int from = min(warp * run, length), to = min(from + run, length);
    int above = 0, equal = 0;
    for (int i = from; i < to; i += 32) {
        const bool valid = i + lane < to;
        const u32 key = !valid ? 0 : cached ? cache[i + lane] : tokens.key(start + i + lane);
        const u32 bits = high_bits(key, shift);
        above += __popc(__ballot_sync(ALL_LANES, valid && bits > threshold));
        equal += __popc(__ballot_sync(ALL_LANES, valid && bits == threshold));
    }
    if (lane == 0) {
        totals[2 * warp] = above;
        totals[2 * warp + 1] = equal;
    }
    __syncthreads();  // every warp has counted
    above = equal = 0;
    for (int i = 0; i < warp; i++) {
        above += totals[2 * i];
        equal += totals[2 * i + 1];
    }
    const int base = out.new_offsets ? out.new_offsets[segment] : 0;
    for (int i = from; i < to; i += 32) {
        const bool valid = i + lane < to;
        const u32 key = !valid ? 0 : cached ? cache[i + lane] : tokens.key(start + i + lane);
        const u32 bits = high_bits(key, shift);
        const bool is_above = valid && bits > threshold, is_equal = valid && bits == threshold;
        const u32 aboves = __ballot_sync(ALL_LANES, is_above), equals = __ballot_sync(ALL_LANES, is_equal);
        const int equals_before = equal + __popc(equals & lanes_before(lane));
        if (is_above || (is_equal && equals_before < needed))
            out.write(start + i + lane, base + above + __popc(aboves & lanes_before(lane)) + min(equals_before, needed));
        above += __popc(aboves);
        equal += __popc(equals);
    }
    __syncthreads();  // the next segment may overwrite shared memory
}

template <class Score>
__device__ __forceinline__ void block_segments(const Segments &in, const Tokens<Score> &tokens, const Output &out,
                                               const int *long_segments, const int *status, int cache_tokens) {
    const int count = status[0];
    for (int i = blockIdx.x; i < count; i += gridDim.x)
        block_segment(in, tokens, out, long_segments[i], cache_tokens);
}

#define INPUT(Score)                                                                                                  \
    const Score *scores, u32 infinity, const u8 *must, const u8 *banned, const int *offsets, const int *counts,       \
        int segments, int tokens
#define OUTPUT const int *new_offsets, i64 *kept, u8 *mask
#define IN {offsets, counts, segments, tokens}
#define TOKENS {scores, must, banned, infinity}
#define OUT {new_offsets, kept, mask}

#define KERNELS(Score, bits)                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) topk_warp_##bits(INPUT(Score), OUTPUT) {                        \
        warp_segment<Score>(Segments IN, Tokens<Score> TOKENS, Output OUT);                                           \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256, 6) /* 6: or NVRTC 13.0 spills to fit 8 on sm_80 */              \
        topk_block_##bits(INPUT(Score), OUTPUT, const int *long_segments, const int *status, int cache_tokens) {      \
        block_segments<Score>(Segments IN, Tokens<Score> TOKENS, Output OUT, long_segments, status, cache_tokens);    \
    }

KERNELS(u32, 32)
KERNELS(u16, 16)
