// The sum of products of two tensors' values, in one pass over memory on the CPU.

#include "ffi.h"
#include "loops.h"

namespace {

// Values whose products are summed in floats before they go to doubles.
constexpr int64_t BLOCK = 4096;
constexpr int64_t LANES = 16;

FOR_EACH_CPU double dot(const float* a, const float* b, int64_t count) {
    double total = 0.0;
    for (int64_t start = 0; start < count; start += BLOCK) {
        const int64_t end = std::min(start + BLOCK, count);
        float lanes[LANES] = {};
        int64_t i = start;
        for (; i + LANES <= end; i += LANES) {
            for (int64_t lane = 0; lane < LANES; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
        }
        for (; i < end; ++i) lanes[0] += a[i] * b[i];
        for (const float lane : lanes) total += lane;
    }
    return total;
}

}  // namespace

extern "C" {

// Sum of a * b, of the same extents, into out.
char* fleetfoot_dot(const at::Tensor* a, const at::Tensor* b, double* out) {
    return guarded([&] {
        const auto plain = [](const at::Tensor& tensor) { return tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat; };
        if (!plain(*a) || !plain(*b) || a->strides() != b->strides() || !a->is_non_overlapping_and_dense()) {
            const auto wide = [](const at::Tensor& tensor) { return tensor.scalar_type() == at::kDouble ? tensor : tensor.to(at::kFloat); };
            *out = (wide(*a) * wide(*b)).sum(at::kDouble).item<double>();
            return;
        }
        TORCH_CHECK(a->sizes() == b->sizes(), "a product of tensors of other extents");
        const float *left = a->const_data_ptr<float>(), *right = b->const_data_ptr<float>();
        const int64_t count = a->numel(), parts = parts_of(count, count);
        std::vector<double> sums(parts, 0.0);
        in_parts(count, parts, [&](int64_t part, int64_t start, int64_t end) { sums[part] = dot(left + start, right + start, end - start); });
        *out = std::accumulate(sums.begin(), sums.end(), 0.0);
    });
}

}  // extern "C"
