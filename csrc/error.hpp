// Errors of the C++ core; bindings.cpp turns them into the Python exceptions of cbench.errors.
#pragma once
#include <stdexcept>
#include <string>

namespace cbench {

// Coded data is damaged, truncated or too long.
struct BitstreamError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// An argument that the caller should not have passed (a symbol outside its table, an index out of range).
struct ArgumentError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace cbench
