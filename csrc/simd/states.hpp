// The inner loop of finite-state coding: decoding with many tables of which only the cumulative starts are kept.
#pragma once
#include "kernels.hpp"

namespace cbench {

// Rows of K ascending 16-bit starts (the first is 0; the last interval ends at 65536), padded to 32 with 65535. In front of
// every row stand the starts of its first 32 blocks of 32, so that two comparisons of vectors find a symbol.
constexpr int kRowBlock = 32;
struct RowView {
    const uint16_t* start;    // of row 0, behind its block starts
    int symbols;              // K, 1..32768
    int stride;               // from row to row; a multiple of 32
};

// Decodes whole groups; row[i] is the table of symbol i. Returns the number of groups done.
using DecodeRows = size_t (*)(DecodeJob& job, const RowView& t, const int32_t* row, int32_t* out, size_t groups);

DecodeRows decode_rows_kernel();   // the set that kernels() has chosen

}  // namespace cbench
