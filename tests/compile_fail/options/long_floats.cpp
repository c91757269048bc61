// error: lnfree computes wrong losses where sums of floats keep more digits; add -mfpmath=sse -msse2
#include <lnfree/fwd.hpp>
