// error: lnfree computes wrong losses under -ffast-math, -Ofast and their parts; add -fno-fast-math
#include <lnfree/fwd.hpp>
