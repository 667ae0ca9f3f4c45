// NCCL, from libtorch's CUDA part. Compiled where the feature `nccl` is on, with the headers of CUDA and NCCL.

#include "backend.h"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <cstdlib>

c10::intrusive_ptr<c10d::Backend> nccl(const c10::intrusive_ptr<c10d::Store>& store, const Place& place) {
    // Whoever waits is told of a timeout; else a thread of NCCL's ends the whole process.
    setenv("TORCH_NCCL_BLOCKING_WAIT", "1", 0);
    setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", 0);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = place.timeout;
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, place.rank, place.size, std::move(options));
}
