// Gradients of convolutions: by libtorch's kernel, which tch doesn't expose, since it takes an array of flags, and by one of
// our own.

#include "depthwise.h"
#include "ffi.h"

#include <array>
#include <optional>
#include <tuple>

extern "C" {

void fleetfoot_free(char* message) { std::free(message); }

bool fleetfoot_graph_wanted() { return c10::GradMode::is_enabled(); }

// Gradients of a two-dimensional convolution without bias by its input and its weight, as far as they are wanted.
char* fleetfoot_conv_backward(const at::Tensor* slope, const at::Tensor* input, const at::Tensor* weight, int64_t stride,
                              int64_t padding, int64_t groups, bool by_input, bool by_weight, at::Tensor** out) {
    return guarded([&] {
        const bool ours = by_weight && depthwise_is_ours(*slope, *input, *weight, groups);
        std::array<int64_t, 2> strides{stride, stride}, paddings{padding, padding}, ones{1, 1}, none{0, 0};
        if (by_input || !ours) {
            auto gradients = at::convolution_backward(*slope, *input, *weight, std::nullopt, strides, paddings, ones, false, none,
                                                      groups, {by_input, by_weight && !ours, false});
            out[0] = given(std::get<0>(gradients));
            out[1] = given(std::get<1>(gradients));
        }
        if (ours) out[1] = given(depthwise_by_weight(*slope, *input, *weight, {stride, padding}));
    });
}

}  // extern "C"
