// error: lnfree needs C++20; compile with -std=c++20, or link the CMake target lnfree::lnfree
#include <lnfree/fwd.hpp>
