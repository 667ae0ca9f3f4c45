// oneDNN has no kernel of its own for this gradient where channels lie innermost and falls back on one for dense groups, which
// takes seven times as long as the convolution itself.

#include "depthwise.h"

#include "loops.h"

#include <cstring>

namespace {

typedef float Sixteen __attribute__((vector_size(64)));
typedef float Eight __attribute__((vector_size(32)));

struct Maps {
    const float *slope, *x;
    int64_t images, channels, height, width, rows, columns;
    Slide slide;
};

template <typename V>
INLINE V load(const float* from) {
    V lanes;
    std::memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

// Sums over all pixels for as many channels as V holds, from channel c on: K * K for each.
template <typename V, int K>
INLINE void sums(const Maps& maps, int64_t c, float* to) {
    const auto [stride, padding] = maps.slide;
    V total[K * K] = {};
    for (int64_t row = 0; row < maps.images * maps.rows; ++row) {
        const int64_t image = row / maps.rows, top = row % maps.rows * stride - padding;
        const float* slopes = maps.slope + row * maps.columns * maps.channels + c;
        for (int64_t ky = std::max<int64_t>(0, -top); ky < std::min<int64_t>(K, maps.height - top); ++ky) {
            const float* values = maps.x + (image * maps.height + top + ky) * maps.width * maps.channels + c;
            V sum[K] = {};
            for (int64_t column = 0; column < maps.columns; ++column) {
                const V slope = load<V>(slopes + column * maps.channels);
                const int64_t left = column * stride - padding;
                const float* value = values + left * maps.channels;
                if (left >= 0 && left + K <= maps.width) {
                    for (int kx = 0; kx < K; ++kx) sum[kx] += slope * load<V>(value + kx * maps.channels);
                } else {
                    for (int kx = 0; kx < K; ++kx) {
                        if (left + kx >= 0 && left + kx < maps.width) sum[kx] += slope * load<V>(value + kx * maps.channels);
                    }
                }
            }
            for (int kx = 0; kx < K; ++kx) total[ky * K + kx] += sum[kx];
        }
    }
    constexpr int64_t lanes = sizeof(V) / sizeof(float);
    for (int tap = 0; tap < K * K; ++tap) {
        float each[lanes];
        std::memcpy(each, &total[tap], sizeof each);
        for (int64_t lane = 0; lane < lanes; ++lane) to[(c + lane) * K * K + tap] = each[lane];
    }
}

template <int K>
INLINE void channels(const Maps& maps, int64_t c, int64_t end, float* to) {
    for (; c + 16 <= end; c += 16) sums<Sixteen, K>(maps, c, to);
    for (; c + 8 <= end; c += 8) sums<Eight, K>(maps, c, to);
    for (; c < end; ++c) sums<float, K>(maps, c, to);
}

FOR_EACH_CPU void three(const Maps& maps, int64_t c, int64_t end, float* to) { channels<3>(maps, c, end, to); }
FOR_EACH_CPU void five(const Maps& maps, int64_t c, int64_t end, float* to) { channels<5>(maps, c, end, to); }
FOR_EACH_CPU void seven(const Maps& maps, int64_t c, int64_t end, float* to) { channels<7>(maps, c, end, to); }

}  // namespace

bool depthwise_is_ours(const at::Tensor& slope, const at::Tensor& x, const at::Tensor& weight, int64_t groups) {
    const auto plain = [](const at::Tensor& maps) {
        return maps.device().is_cpu() && maps.scalar_type() == at::kFloat && maps.is_contiguous(at::MemoryFormat::ChannelsLast);
    };
    const int64_t taps = weight.size(2);
    return groups == x.size(1) && groups == weight.size(0) && weight.size(3) == taps && (taps == 3 || taps == 5 || taps == 7) &&
           plain(x) && plain(slope) && weight.scalar_type() == at::kFloat;
}

at::Tensor depthwise_by_weight(const at::Tensor& slope, const at::Tensor& x, const at::Tensor& weight, Slide slide) {
    at::Tensor gradient = at::empty(weight.sizes(), x.options());
    const Maps maps{slope.const_data_ptr<float>(), x.const_data_ptr<float>(), x.size(0),     x.size(1), x.size(2),
                    x.size(3),                     slope.size(2),             slope.size(3), slide};
    float* to = gradient.mutable_data_ptr<float>();
    const int64_t taps = weight.size(2), blocks = (maps.channels + 15) / 16;
    in_parts(blocks, parts_of(blocks, slope.numel() * taps), [&](int64_t, int64_t start, int64_t end) {
        const auto run = taps == 3 ? three : taps == 5 ? five : seven;
        run(maps, start * 16, std::min(end * 16, maps.channels), to);
    });
    return gradient;
}
