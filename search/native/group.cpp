// Processes that learn together: libtorch's c10d, which tch doesn't expose. A TCPStore brings ranks together, a backend
// carries their tensors.

#include "backend.h"
#include "ffi.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <c10/util/Logging.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace {

// What c10d would write down of errors that are told by us anyway, with its stack, is only for those who ask for it.
void hush() {
    constexpr int FATAL = 3;
    if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = FATAL;
}

struct Store {
    c10::intrusive_ptr<c10d::Store> store;
};

struct Group {
    // The store is closed behind the backend that was made by it.
    c10::intrusive_ptr<c10d::Store> store;
    c10::intrusive_ptr<c10d::Backend> backend;
    std::chrono::milliseconds timeout;
};

struct Work {
    c10::intrusive_ptr<c10d::Work> work;
    std::chrono::milliseconds timeout;
};

void finish(const c10::intrusive_ptr<c10d::Work>& work, std::chrono::milliseconds timeout) {
    // The backend has its own timeout, the same; of what is too late, either is an error.
    if (!work->wait(timeout)) throw std::runtime_error("it was ended");
}

c10::intrusive_ptr<c10d::Backend> gloo_over(const c10::intrusive_ptr<c10d::Store>& store, const Place& place,
                                            const std::string& interface, const std::string& address) {
    auto options = c10d::ProcessGroupGloo::Options::create(place.timeout);
    // Sums go out one behind the other: a second thread would only take turns with the first.
    options->threads = 1;
    options->devices.push_back(interface.empty() ? c10d::ProcessGroupGloo::createDeviceForHostname(address)
                                                 : c10d::ProcessGroupGloo::createDeviceForInterface(interface));
    return c10::make_intrusive<c10d::ProcessGroupGloo>(store, place.rank, place.size, std::move(options));
}

}  // namespace

extern "C" {

// Where ranks meet: returns when it can be reached, and where rank 0 serves it (`hosts` there), when all have come.
char* fleetfoot_store_open(const char* host, uint16_t port, bool hosts, int32_t size, int64_t timeout_ms, Store** out) {
    return guarded([&] {
        hush();
        c10d::TCPStoreOptions options;
        options.port = port;
        options.isServer = hosts;
        options.numWorkers = static_cast<size_t>(size);
        options.waitWorkers = true;
        options.timeout = std::chrono::milliseconds(timeout_ms);
        *out = new Store{c10::make_intrusive<c10d::TCPStore>(host, options)};
    });
}

void fleetfoot_store_close(Store* store) { delete store; }

char* fleetfoot_store_set(Store* store, const char* key, const char* value) {
    return guarded([&] { store->store->set(key, std::string(value)); });
}

// The value of a key, to be freed with fleetfoot_free; null where nobody has set it.
char* fleetfoot_store_get(Store* store, const char* key, char** out) {
    return guarded([&] { *out = store->store->check({key}) ? said(store->store->get_to_str(key).c_str()) : nullptr; });
}

// Joins the others: returns when all are there. `prefix` is in front of all keys; `interface`, or else `address`, says by which
// of this machine's networks tensors go.
char* fleetfoot_group_join(Store* store, const char* prefix, int32_t rank, int32_t size, int64_t timeout_ms, bool by_nccl,
                           const char* interface, const char* address, Group** out) {
    return guarded([&] {
        const Place place{rank, size, std::chrono::milliseconds(timeout_ms)};
        c10::intrusive_ptr<c10d::Store> own = c10::make_intrusive<c10d::PrefixStore>(prefix, store->store);
        own->setTimeout(place.timeout);
        auto group = std::make_unique<Group>();
        group->backend = by_nccl ? nccl(own, place) : gloo_over(own, place, interface, address);
        group->store = std::move(own);
        group->timeout = place.timeout;
        *out = group.release();
    });
}

void fleetfoot_group_leave(Group* group) { delete group; }

// Adds up a tensor of all ranks, in place; under way when this returns.
char* fleetfoot_group_sum(Group* group, const at::Tensor* tensor, Work** out) {
    return guarded([&] {
        std::vector<at::Tensor> tensors{*tensor};
        *out = new Work{group->backend->allreduce(tensors), group->timeout};
    });
}

// Waits for what is under way, and forgets it.
char* fleetfoot_work_finish(Work* work) {
    std::unique_ptr<Work> own(work);
    return guarded([&] { finish(own->work, own->timeout); });
}

// Copies rank 0's tensor into everybody's.
char* fleetfoot_group_broadcast(Group* group, const at::Tensor* tensor) {
    return guarded([&] {
        std::vector<at::Tensor> tensors{*tensor};
        finish(group->backend->broadcast(tensors), group->timeout);
    });
}

}  // extern "C"
