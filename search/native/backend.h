// What carries tensors from rank to rank.

#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>

// A rank of so many, and how long anything may take.
struct Place {
    int rank;
    int size;
    std::chrono::milliseconds timeout;
};

// NCCL, between GPUs; an error in a build without it.
c10::intrusive_ptr<c10d::Backend> nccl(const c10::intrusive_ptr<c10d::Store>& store, const Place& place);
