// How C++ talks to Rust here: tensors as pointers, errors as messages that the caller frees with fleetfoot_free. No
// exception gets out.

#pragma once

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

inline char* said(const char* what) {
    char* copy = static_cast<char*>(std::malloc(std::strlen(what) + 1));
    if (copy != nullptr) std::strcpy(copy, what);
    return copy;
}

// Runs it; a message if it threw.
template <typename F>
char* guarded(F run) {
    try {
        c10::NoGradGuard no_graph;
        run();
        return nullptr;
    } catch (const c10::Error& error) {
        return said(error.what_without_backtrace());
    } catch (const std::exception& error) {
        return said(error.what());
    } catch (...) {
        return said("an error without a message");
    }
}

inline at::Tensor* given(at::Tensor tensor) {
    return tensor.defined() ? new at::Tensor(std::move(tensor)) : nullptr;
}
