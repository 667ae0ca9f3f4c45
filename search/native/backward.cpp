// Two of libtorch's backward kernels that tch doesn't expose, since they take arrays of flags. Both dispatch to whatever
// device their tensors are on.

#include "guard.h"

#include <array>
#include <tuple>

using fleetfoot::given;
using fleetfoot::guarded;

extern "C" {

void fleetfoot_free(char* message) { std::free(message); }

// Gradients of a two-dimensional convolution without bias by its input and its weight, as far as they are wanted.
char* fleetfoot_conv_backward(const at::Tensor* slope, const at::Tensor* input, const at::Tensor* weight, int64_t stride,
                              int64_t padding, int64_t groups, bool by_input, bool by_weight, at::Tensor** out) {
    return guarded([&] {
        std::array<int64_t, 2> strides{stride, stride}, paddings{padding, padding}, ones{1, 1}, none{0, 0};
        auto gradients = at::convolution_backward(*slope, *input, *weight, c10::nullopt, strides, paddings, ones, false, none,
                                                  groups, {by_input, by_weight, false});
        out[0] = given(std::get<0>(gradients));
        out[1] = given(std::get<1>(gradients));
    });
}

// Gradients of batch normalisation by the batch's statistics: by its input, and by weight and bias where those are wanted.
char* fleetfoot_batch_norm_backward(const at::Tensor* slope, const at::Tensor* input, const at::Tensor* weight,
                                    const at::Tensor* mean, const at::Tensor* inverse_std, double eps, bool by_weight,
                                    at::Tensor** out) {
    return guarded([&] {
        auto gradients = at::native_batch_norm_backward(*slope, *input, *weight, at::Tensor(), at::Tensor(), *mean, *inverse_std,
                                                        true, eps, {true, by_weight, by_weight});
        out[0] = given(std::get<0>(gradients));
        out[1] = given(std::get<1>(gradients));
        out[2] = given(std::get<2>(gradients));
    });
}

}  // extern "C"
