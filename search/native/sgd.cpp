// A step of stochastic gradient descent with Nesterov momentum, in one pass over memory on the CPU, where libtorch's
// operators take eight.

#include "ffi.h"
#include "loops.h"

namespace {

// Whether two tensors of the same extents lie in memory alike.
bool alike(const at::Tensor& a, const at::Tensor& b) {
    if (!b.is_non_overlapping_and_dense()) return false;
    for (int64_t dim = 0; dim < a.dim(); ++dim) {
        if (a.size(dim) > 1 && a.stride(dim) != b.stride(dim)) return false;
    }
    return true;
}

FOR_EACH_CPU void step(float* value, float* velocity, const float* gradient, int64_t count, float lr, float momentum, float decay) {
    for (int64_t i = 0; i < count; ++i) {
        const float g = gradient[i] + decay * value[i];
        const float v = momentum * velocity[i] + g;
        velocity[i] = v;
        value[i] -= lr * (g + momentum * v);
    }
}

}  // namespace

extern "C" {

// g <- gradient + decay value; velocity <- momentum velocity + g; value <- value - lr (g + momentum velocity).
char* fleetfoot_sgd(const at::Tensor* value, const at::Tensor* velocity, const at::Tensor* gradient, double lr, double momentum,
                    double decay) {
    return guarded([&] {
        const auto plain = [](const at::Tensor& tensor) { return tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat; };
        if (!plain(*value) || !plain(*velocity) || !plain(*gradient) || !value->is_non_overlapping_and_dense()) {
            const at::Tensor g = *gradient + *value * decay;
            velocity->mul_(momentum).add_(g);
            value->sub_((*velocity * momentum).add_(g).mul_(lr));
            return;
        }
        TORCH_CHECK(gradient->sizes() == value->sizes() && velocity->sizes() == value->sizes(), "a gradient of other extents");
        at::Tensor slope = *gradient, speed = *velocity;
        if (!alike(*value, slope)) slope = at::empty_like(*value).copy_(*gradient);
        if (!alike(*value, speed)) speed = at::empty_like(*value).copy_(*velocity);
        float *w = value->mutable_data_ptr<float>(), *v = speed.mutable_data_ptr<float>();
        const float* g = slope.const_data_ptr<float>();
        in_parts(value->numel(), parts_of(value->numel(), value->numel()), [&](int64_t, int64_t start, int64_t end) {
            step(w + start, v + start, g + start, end - start, static_cast<float>(lr), static_cast<float>(momentum),
                 static_cast<float>(decay));
        });
        if (!speed.is_same(*velocity)) velocity->copy_(speed);
    });
}

}  // extern "C"
