// Tables, context map and offsets of finite-state coding, owned together.
#pragma once
#include <array>

#include "bindings.hpp"
#include "states.hpp"

namespace cbench {

class StateModel {
  public:
    StateModel(const Array<uint32_t>& weights, Array<int32_t> map, const std::vector<std::array<int, 3>>& offsets);
    const ContextMap& map() const { return context_; }
    size_t bytes() const { return tables_.bytes() + static_cast<size_t>(map_.nbytes()); }
    Shape4 shape(const py::array& symbols) const;   // checks (B, L, H, W)

  private:
    Array<int32_t> map_;   // kept alive: the context map points into it
    RowTables tables_;
    ContextMap context_;
};

}  // namespace cbench
