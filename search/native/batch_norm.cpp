// Batch normalisation by the batch's statistics, with ReLU6 behind it where the network has one there, forwards and
// backwards. On the CPU, of floats whose channels lie innermost, by loops of our own: a pass over memory for the statistics
// and one for the output, where libtorch takes four; backwards three instead of nine. Of anything else by libtorch's kernels,
// on whatever device the tensors are.

#include "ffi.h"
#include "loops.h"

#include <array>
#include <cmath>
#include <optional>
#include <tuple>

namespace {

// Pixels whose sums are held in floats before they go to doubles.
constexpr int64_t BLOCK = 64;

// Whether our own loops take it.
bool ours(const at::Tensor& x) {
    return x.device().is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 4 && x.numel() > 0 &&
           x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

// What normalises a channel: y = x * scale + shift.
struct Affine {
    std::vector<float> scale, shift;

    Affine(const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& mean, const at::Tensor& inverse_std)
        : scale(mean.numel()), shift(mean.numel()) {
        const float *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
        const float *m = mean.const_data_ptr<float>(), *s = inverse_std.const_data_ptr<float>();
        for (size_t c = 0; c < scale.size(); ++c) {
            scale[c] = w[c] * s[c];
            shift[c] = b[c] - m[c] * scale[c];
        }
    }
};

INLINE float cut(float y) {
    y = 0.0f > y ? 0.0f : y;
    return 6.0f < y ? 6.0f : y;
}

// Adds x - origin and its square, summed over pixels, for every channel.
FOR_EACH_CPU void moments(const float* __restrict x, int64_t pixels, int64_t channels, const float* __restrict origin,
                          float* __restrict sums, float* __restrict squares) {
    for (int64_t p = 0; p < pixels; ++p, x += channels) {
        for (int64_t c = 0; c < channels; ++c) {
            const float off = x[c] - origin[c];
            sums[c] += off;
            squares[c] += off * off;
        }
    }
}

// y is x or lies elsewhere.
FOR_EACH_CPU void normalise(const float* x, float* y, int64_t pixels, int64_t channels, const float* __restrict scale,
                            const float* __restrict shift, bool relu6) {
    for (int64_t p = 0; p < pixels; ++p, x += channels, y += channels) {
        if (relu6) {
            INDEPENDENT for (int64_t c = 0; c < channels; ++c) y[c] = cut(x[c] * scale[c] + shift[c]);
        } else {
            INDEPENDENT for (int64_t c = 0; c < channels; ++c) y[c] = x[c] * scale[c] + shift[c];
        }
    }
}

// What ReLU6 lets through of a slope.
INLINE float passed(float slope, float y) { return (y > 0.0f) & (y < 6.0f) ? slope : 0.0f; }

// Adds the slope by the normalised value, and its product with x - mean, summed over pixels, for every channel.
FOR_EACH_CPU void slope_moments(const float* __restrict slope, const float* __restrict x, int64_t pixels, int64_t channels,
                                const float* __restrict mean, const float* __restrict scale, const float* __restrict shift,
                                bool relu6, float* __restrict sums, float* __restrict products) {
    for (int64_t p = 0; p < pixels; ++p, x += channels, slope += channels) {
        if (relu6) {
            for (int64_t c = 0; c < channels; ++c) {
                const float g = passed(slope[c], x[c] * scale[c] + shift[c]);
                sums[c] += g;
                products[c] += g * (x[c] - mean[c]);
            }
        } else {
            for (int64_t c = 0; c < channels; ++c) {
                sums[c] += slope[c];
                products[c] += slope[c] * (x[c] - mean[c]);
            }
        }
    }
}

// The slope by x in place of that by y: g * scale + x * by_x + constant, where g is what ReLU6 lets through.
FOR_EACH_CPU void slope_by_input(float* __restrict slope, const float* __restrict x, int64_t pixels, int64_t channels,
                                 const float* __restrict scale, const float* __restrict shift, const float* __restrict by_x,
                                 const float* __restrict constant, bool relu6) {
    for (int64_t p = 0; p < pixels; ++p, x += channels, slope += channels) {
        if (relu6) {
            for (int64_t c = 0; c < channels; ++c) {
                const float g = passed(slope[c], x[c] * scale[c] + shift[c]);
                slope[c] = g * scale[c] + (x[c] * by_x[c] + constant[c]);
            }
        } else {
            for (int64_t c = 0; c < channels; ++c) slope[c] = slope[c] * scale[c] + (x[c] * by_x[c] + constant[c]);
        }
    }
}

// Adds what a batch normalisation's products with a slope are made of: x - origin, its square, the slope, and its product
// with x - origin, summed over pixels, for every channel.
FOR_EACH_CPU void product_moments(const float* __restrict x, const float* __restrict slope, int64_t pixels, int64_t channels,
                                  const float* __restrict origin, float* __restrict sums, float* __restrict squares,
                                  float* __restrict slopes, float* __restrict products) {
    for (int64_t p = 0; p < pixels; ++p, x += channels, slope += channels) {
        for (int64_t c = 0; c < channels; ++c) {
            const float off = x[c] - origin[c];
            sums[c] += off;
            squares[c] += off * off;
            slopes[c] += slope[c];
            products[c] += slope[c] * off;
        }
    }
}

using Sums = std::vector<double>;

// N sums over all pixels for every channel: run(start, end, sums) adds those of a block of pixels to N rows of channels.
template <size_t N, typename F>
std::array<Sums, N> summed(int64_t pixels, int64_t channels, F run) {
    const int64_t parts = parts_of(pixels, pixels * channels), count = static_cast<int64_t>(N) * channels;
    std::vector<Sums> sums(parts);
    in_parts(pixels, parts, [&](int64_t part, int64_t start, int64_t end) {
        sums[part].assign(count, 0.0);
        std::vector<float> block(count);
        for (; start < end; start += BLOCK) {
            std::fill(block.begin(), block.end(), 0.0f);
            run(start, std::min(start + BLOCK, end), block.data());
            for (int64_t i = 0; i < count; ++i) sums[part][i] += block[i];
        }
    });
    for (int64_t part = 1; part < parts; ++part) {
        for (int64_t i = 0; i < count; ++i) sums[0][i] += sums[part][i];
    }
    std::array<Sums, N> rows;
    for (size_t row = 0; row < N; ++row) rows[row].assign(sums[0].begin() + row * channels, sums[0].begin() + (row + 1) * channels);
    return rows;
}

// Sum of the squares about the mean, from sums of x - origin and its square.
double about_mean(double sum, double square, double count) {
    const double about = std::max(0.0, square - sum * sum / count);
    // max(0, NaN) is 0: what is no number must stay none.
    return std::isfinite(square) ? about : square;
}

at::Tensor normalised(const at::Tensor& x, const Affine& affine, bool relu6, bool over) {
    at::Tensor y = over ? x : at::empty_like(x);
    const float* from = x.const_data_ptr<float>();
    float* to = y.mutable_data_ptr<float>();
    const int64_t channels = x.size(1), pixels = x.numel() / channels;
    in_parts(pixels, parts_of(pixels, x.numel()), [&](int64_t, int64_t start, int64_t end) {
        const int64_t at = start * channels;
        normalise(from + at, to + at, end - start, channels, affine.scale.data(), affine.shift.data(), relu6);
    });
    return y;
}

// The batch's mean and 1 / standard deviation; the running mean and variance, if there are any, follow.
std::pair<at::Tensor, at::Tensor> statistics(const at::Tensor& x, const at::Tensor* running_mean, const at::Tensor* running_var,
                                             double momentum, double eps) {
    const int64_t channels = x.size(1), pixels = x.numel() / channels;
    const float* data = x.const_data_ptr<float>();
    // Squares about some value of the channel's own keep their digits however far from 0 the channel lies.
    const std::vector<float> origin(data, data + channels);
    const auto [sums, squares] = summed<2>(pixels, channels, [&](int64_t start, int64_t end, float* rows) {
        moments(data + start * channels, end - start, channels, origin.data(), rows, rows + channels);
    });
    at::Tensor mean = at::empty({channels}, x.options()), inverse_std = at::empty_like(mean);
    float *m = mean.mutable_data_ptr<float>(), *s = inverse_std.mutable_data_ptr<float>();
    float* rm = running_mean ? running_mean->mutable_data_ptr<float>() : nullptr;
    float* rv = running_var ? running_var->mutable_data_ptr<float>() : nullptr;
    const double count = static_cast<double>(pixels);
    for (int64_t c = 0; c < channels; ++c) {
        const double about = about_mean(sums[c], squares[c], count), centre = sums[c] / count + origin[c];
        m[c] = static_cast<float>(centre);
        s[c] = static_cast<float>(1.0 / std::sqrt(about / count + eps));
        if (rm) rm[c] = static_cast<float>((1.0 - momentum) * rm[c] + momentum * centre);
        if (rv) rv[c] = static_cast<float>((1.0 - momentum) * rv[c] + momentum * about / (count - 1.0));
    }
    return {mean, inverse_std};
}

at::Tensor plane(const at::Tensor& channels) { return channels.view({1, -1, 1, 1}); }

// The same by libtorch's operators, on any device.
at::Tensor normalised_anywhere(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& mean,
                               const at::Tensor& inverse_std, bool relu6) {
    const at::Tensor scale = weight * inverse_std, shift = bias - mean * scale;
    at::Tensor y = at::addcmul(plane(shift), x, plane(scale)).to(x.scalar_type());
    return relu6 ? y.clamp_(0.0, 6.0) : y;
}

}  // namespace

extern "C" {

// Output, mean and 1 / standard deviation. Running mean and variance may be missing. `over`: the output may lie where x lay.
char* fleetfoot_batch_norm_forward(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, const at::Tensor* running_mean,
                                   const at::Tensor* running_var, double momentum, double eps, bool relu6, bool over, at::Tensor** out) {
    return guarded([&] {
        at::Tensor y, mean, inverse_std;
        if (ours(*x)) {
            std::tie(mean, inverse_std) = statistics(*x, running_mean, running_var, momentum, eps);
            y = normalised(*x, Affine(*weight, *bias, mean, inverse_std), relu6, over);
        } else {
            const auto optional = [](const at::Tensor* tensor) { return tensor ? std::optional<at::Tensor>(*tensor) : std::nullopt; };
            std::tie(y, mean, inverse_std) = at::native_batch_norm(*x, *weight, *bias, optional(running_mean), optional(running_var), true, momentum, eps);
            if (relu6) y.clamp_(0.0, 6.0);
        }
        out[0] = given(y);
        out[1] = given(mean);
        out[2] = given(inverse_std);
    });
}

// The output once more, by statistics that are there already; with `over` it may lie where x lay.
char* fleetfoot_batch_norm_again(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, const at::Tensor* mean,
                                 const at::Tensor* inverse_std, bool relu6, bool over, at::Tensor** out) {
    return guarded([&] {
        out[0] = given(ours(*x) ? normalised(*x, Affine(*weight, *bias, *mean, *inverse_std), relu6, over)
                                : normalised_anywhere(*x, *weight, *bias, *mean, *inverse_std, relu6));
    });
}

// Sum of the products of the output, without ReLU6, with a slope of the same extents, into out. The output isn't written:
// one pass over x and the slope gives all that the sum is made of.
char* fleetfoot_batch_norm_dot(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, double eps,
                               const at::Tensor* slope, double* out) {
    return guarded([&] {
        TORCH_CHECK(x->sizes() == slope->sizes(), "a product of tensors of other extents");
        if (!ours(*x) || slope->scalar_type() != at::kFloat) {
            const at::Tensor y = std::get<0>(at::native_batch_norm(*x, *weight, *bias, {}, {}, true, 0.0, eps));
            *out = (y.to(at::kFloat) * slope->to(at::kFloat)).sum(at::kDouble).item<double>();
            return;
        }
        const at::Tensor g = slope->contiguous(at::MemoryFormat::ChannelsLast);
        const int64_t channels = x->size(1), pixels = x->numel() / channels;
        const float *values = x->const_data_ptr<float>(), *slopes = g.const_data_ptr<float>();
        const std::vector<float> origin(values, values + channels);
        const auto [sums, squares, slope_sums, products] = summed<4>(pixels, channels, [&](int64_t start, int64_t end, float* rows) {
            const int64_t at = start * channels;
            product_moments(values + at, slopes + at, end - start, channels, origin.data(), rows, rows + channels,
                            rows + 2 * channels, rows + 3 * channels);
        });
        const float *w = weight->const_data_ptr<float>(), *b = bias->const_data_ptr<float>();
        const double count = static_cast<double>(pixels);
        double total = 0.0;
        for (int64_t c = 0; c < channels; ++c) {
            const double inverse_std = 1.0 / std::sqrt(about_mean(sums[c], squares[c], count) / count + eps);
            total += w[c] * inverse_std * (products[c] - sums[c] / count * slope_sums[c]) + b[c] * slope_sums[c];
        }
        *out = total;
    });
}

// Slopes by the input, which may lie where those by the output lay, and by weight and bias where those are wanted.
char* fleetfoot_batch_norm_backward(const at::Tensor* slope, const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias,
                                    const at::Tensor* mean, const at::Tensor* inverse_std, double eps, bool relu6, bool by_weight,
                                    at::Tensor** out) {
    return guarded([&] {
        if (!ours(*x)) {
            at::Tensor passed = *slope;
            if (relu6) {
                const at::Tensor y = normalised_anywhere(*x, *weight, *bias, *mean, *inverse_std, true);
                passed = at::hardtanh_backward(*slope, y, 0.0, 6.0);
            }
            auto gradients = at::native_batch_norm_backward(passed, *x, *weight, at::Tensor(), at::Tensor(), *mean, *inverse_std, true,
                                                            eps, {true, by_weight, by_weight});
            out[0] = given(std::get<0>(gradients));
            out[1] = given(std::get<1>(gradients));
            out[2] = given(std::get<2>(gradients));
            return;
        }
        at::Tensor g = slope->contiguous(at::MemoryFormat::ChannelsLast);
        const int64_t channels = x->size(1), pixels = x->numel() / channels;
        const float* values = x->const_data_ptr<float>();
        const float* m = mean->const_data_ptr<float>();
        const float* s = inverse_std->const_data_ptr<float>();
        const Affine affine(*weight, *bias, *mean, *inverse_std);
        const float *scale = affine.scale.data(), *shift = affine.shift.data();
        float* slopes = g.mutable_data_ptr<float>();
        const auto [sums, products] = summed<2>(pixels, channels, [&](int64_t start, int64_t end, float* rows) {
            const int64_t at = start * channels;
            slope_moments(slopes + at, values + at, end - start, channels, m, scale, shift, relu6, rows, rows + channels);
        });
        // dL/dx = scale (g - mean(g) - (x - mean) / std^2 mean(g (x - mean))).
        std::vector<float> by_x(channels), constant(channels);
        for (int64_t c = 0; c < channels; ++c) {
            const double variance = static_cast<double>(s[c]) * s[c], count = static_cast<double>(pixels);
            const double slope_by_x = -scale[c] * variance * products[c] / count;
            by_x[c] = static_cast<float>(slope_by_x);
            constant[c] = static_cast<float>(-scale[c] * sums[c] / count - slope_by_x * m[c]);
        }
        in_parts(pixels, parts_of(pixels, x->numel()), [&](int64_t, int64_t start, int64_t end) {
            const int64_t at = start * channels;
            slope_by_input(slopes + at, values + at, end - start, channels, scale, shift, by_x.data(), constant.data(), relu6);
        });
        out[0] = given(g);
        if (!by_weight) return;
        at::Tensor dw = at::empty_like(*mean), db = at::empty_like(*mean);
        float *w = dw.mutable_data_ptr<float>(), *b = db.mutable_data_ptr<float>();
        for (int64_t c = 0; c < channels; ++c) {
            w[c] = static_cast<float>(products[c] * s[c]);
            b[c] = static_cast<float>(sums[c]);
        }
        out[1] = given(dw);
        out[2] = given(db);
    });
}

}  // extern "C"
