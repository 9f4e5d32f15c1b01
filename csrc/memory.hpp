// Memory of streams in the making. Large blocks are kept for the next call: fresh ones cost a page fault every 4 KiB, which
// takes as long as the coding.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace cbench {

struct GiveBack {
    size_t size = 0;
    void operator()(uint8_t* block) const;
};

// A block and, in its deleter, its size. The bytes are not initialised.
using Memory = std::unique_ptr<uint8_t[], GiveBack>;

Memory allocate(size_t size);   // `size` bytes or more, aligned for any small type

}  // namespace cbench
