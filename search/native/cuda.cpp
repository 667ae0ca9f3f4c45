// What tch doesn't expose of how a GPU computes and is reached. It compiles, links and can be called without one.

#include "ffi.h"

extern "C" {

// cuDNN takes only algorithms that add in the same order every time, and tries none out.
void fleetfoot_deterministic() {
    at::globalContext().setDeterministicCuDNN(true);
    at::globalContext().setBenchmarkCuDNN(false);
}

// A copy in page-locked memory, with the same strides.
char* fleetfoot_pinned(const at::Tensor* tensor, at::Tensor** out) {
    return guarded([&] { out[0] = given(tensor->pin_memory()); });
}

}  // extern "C"
