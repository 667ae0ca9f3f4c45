// Tensors' values in a row, as they lie in memory, and tensors of such a row again.

#include "ffi.h"

#include <cstring>
#include <vector>

namespace {

at::MemoryFormat format(int64_t dims, bool channels_last) {
    return channels_last && dims == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

// Of a tensor that is dense in one of the two orders.
std::vector<int64_t> strides(at::IntArrayRef sizes, bool channels_last) {
    std::vector<int64_t> strides(sizes.size(), 1);
    if (channels_last && sizes.size() == 4) {
        return {sizes[1] * sizes[2] * sizes[3], 1, sizes[3] * sizes[1], sizes[1]};
    }
    for (size_t dim = sizes.size(); dim > 1; --dim) strides[dim - 2] = strides[dim - 1] * sizes[dim - 1];
    return strides;
}

}  // namespace

extern "C" {

// One tensor of one dimension with the values of all, of one type; those of four dimensions in the order that is said.
char* fleetfoot_in_a_row(const at::Tensor* const* tensors, size_t count, bool channels_last, at::Tensor** out) {
    return guarded([&] {
        std::vector<at::Tensor> dense(count);
        int64_t length = 0;
        bool plain = count > 0;
        for (size_t i = 0; i < count; ++i) {
            dense[i] = tensors[i]->contiguous(format(tensors[i]->dim(), channels_last));
            length += dense[i].numel();
            plain = plain && dense[i].is_cpu() && dense[i].scalar_type() == dense[0].scalar_type();
        }
        if (!plain) {
            for (at::Tensor& tensor : dense) tensor = tensor.as_strided({tensor.numel()}, {1}, tensor.storage_offset());
            *out = given(at::cat(dense));
            return;
        }
        at::Tensor row = at::empty({length}, dense[0].options().memory_format(std::nullopt));
        char* to = static_cast<char*>(row.data_ptr());
        for (const at::Tensor& tensor : dense) {
            std::memcpy(to, tensor.const_data_ptr(), tensor.nbytes());
            to += tensor.nbytes();
        }
        *out = given(std::move(row));
    });
}

// Tensors of such a row, which they share; extents one behind the other.
char* fleetfoot_out_of_row(const at::Tensor* row, const int64_t* extents, const int64_t* dims, size_t count,
                           bool channels_last, at::Tensor** out) {
    return guarded([&] {
        int64_t start = row->storage_offset();
        for (size_t i = 0; i < count; ++i) {
            const at::IntArrayRef sizes(extents, static_cast<size_t>(dims[i]));
            extents += dims[i];
            out[i] = given(row->as_strided(sizes, strides(sizes, channels_last), start));
            start += out[i]->numel();
        }
    });
}

}  // extern "C"
