// Loops over memory on the CPU: on libtorch's own threads, with the instructions that the CPU has.

#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

// The compiler makes a version of such a function for every instruction set named, and the loader takes the best that the
// CPU has.
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__)
#define FOR_EACH_CPU __attribute__((target_clones("avx512f", "fma", "default")))
#else
#define FOR_EACH_CPU
#endif
#define INLINE inline __attribute__((always_inline))
// A loop whose rounds don't depend on each other, wherever its pointers lead.
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

// Calls run(part, first, end) for parts of 0..count, in parallel if there is work for more than one thread. How it is
// parted depends on the count, the work and the number of threads alone: sums over parts come out alike every time.
//
// libtorch's threads are reached by an iterator over the parts' numbers: at::parallel_for is a template, which would need
// the same OpenMP here as libtorch was compiled with.
constexpr int64_t WORTH_A_THREAD = 32768;

inline int64_t parts_of(int64_t count, int64_t work) {
    const int64_t most = std::min<int64_t>(at::get_num_threads(), work / WORTH_A_THREAD);
    return std::max<int64_t>(1, std::min(most, count));
}

template <typename F>
void in_parts(int64_t count, int64_t parts, F run) {
    const auto part = [&](int64_t number) { run(number, count * number / parts, count * (number + 1) / parts); };
    if (parts == 1) return part(0);
    std::vector<int64_t> numbers(parts);
    std::iota(numbers.begin(), numbers.end(), 0);
    const at::Tensor list = at::from_blob(numbers.data(), {parts}, at::kLong);
    auto iterator = at::TensorIteratorConfig().add_const_input(list).check_all_same_dtype(false).build();
    iterator.for_each(
        [&](char** data, const int64_t* strides, int64_t length) {
            for (int64_t i = 0; i < length; ++i) part(*reinterpret_cast<const int64_t*>(data[0] + i * strides[0]));
        },
        1);
}
