// error: lnfree: a schedule must offer name and double operator()(std::int64_t step) const
#include <lnfree/model.hpp>
#include <lnfree/train/trainer.hpp>

using namespace lnfree;

struct Nameless {
  double operator()(std::int64_t) const { return 1e-3; }
};

template class lnfree::Trainer<Decoder<tiny>, AdamW, Nameless>;
