// All kernels on random segments with a thread a CUDA thread, for ThreadSanitizer. Exit 0: results as a sort gives them.
#include "run.cpp"

#include <random>

static int failures = 0;

template <class... Arguments>
static void launch(const char *name, int grid, int threads, Arguments... arguments) {
    void *pointers[] = {(void *)&arguments...};
    if (shim_launch(name, grid, threads, 65536, pointers, 0, 0)) failures++;
}

template <class Score>
static void check(const char *bits, uint32_t infinity, std::mt19937 &random, int cache_tokens) {
    const int threads = 64, segments = 6, lengths[segments] = {0, 3, 40, 300, 700, 257};
    std::vector<int> offsets{0}, k, counts(segments + 1), long_segments(segments), status(3), totals{0};
    for (int length : lengths) offsets.push_back(offsets.back() + length);
    const int tokens = offsets.back();
    std::vector<Score> scores(tokens);
    std::vector<unsigned char> must(tokens), banned(tokens);
    for (auto &score : scores) score = random() % 50 + 5;
    for (int t = 0; t < tokens; t++) must[t] = random() % 9 == 0, banned[t] = random() % 7 == 0;
    for (int length : lengths) k.push_back(length / 3);
    launch("topk_plan_masked", 3, threads, (const int *)offsets.data(), (const int *)k.data(),
           (const unsigned char *)must.data(), (const unsigned char *)banned.data(), segments, tokens, counts.data(),
           long_segments.data(), status.data());
    for (int i = 0; i < segments; i++) totals.push_back(totals.back() + counts[i + 1]);
    std::vector<long long> kept(totals.back(), -1);
    const void *none = nullptr;
    const std::string warp = std::string("topk_warp_") + bits, block = std::string("topk_block_") + bits;
#define COMMON                                                                                                        \
    (const Score *)scores.data(), infinity, (const unsigned char *)must.data(), (const unsigned char *)banned.data(), \
        (const int *)offsets.data(), (const int *)counts.data(), segments, tokens, (const int *)totals.data(),        \
        kept.data(), none
    launch(warp.c_str(), 3, threads, COMMON);
    launch(block.c_str(), 1, threads, COMMON, (const int *)long_segments.data(), (const int *)status.data(), cache_tokens);
    for (int i = 0; i < segments; i++) {
        std::vector<long long> best;
        for (int t = offsets[i]; t < offsets[i + 1]; t++)
            if (!banned[t]) best.push_back(t);
        auto value = [&](long long t) { return must[t] ? 1 << 20 : (int)scores[t]; };
        std::stable_sort(best.begin(), best.end(), [&](long long a, long long b) { return value(a) > value(b); });
        best.resize(counts[i + 1]);
        std::sort(best.begin(), best.end());
        if (!std::equal(best.begin(), best.end(), kept.begin() + totals[i])) failures++;
    }
}

int main() {
    std::mt19937 random(1);
    check<unsigned>("32", 0x7f800000, random, 8192);
    check<unsigned short>("16", 0x7c00, random, 0);
    printf("%d failures\n", failures);
    return failures != 0;
}
