// The gradient of a depthwise convolution by its weight.

#pragma once

#include <ATen/ATen.h>

// How a depthwise convolution slides.
struct Slide {
    int64_t stride, padding;
};

// Whether depthwise_by_weight takes it: floats on the CPU whose channels lie innermost, one output a channel, 3 x 3, 5 x 5 or
// 7 x 7 taps.
bool depthwise_is_ours(const at::Tensor& slope, const at::Tensor& x, const at::Tensor& weight, int64_t groups);

// C x 1 x k x k, from slopes N x C x H' x W' and inputs N x C x H x W.
at::Tensor depthwise_by_weight(const at::Tensor& slope, const at::Tensor& x, const at::Tensor& weight, Slide slide);
