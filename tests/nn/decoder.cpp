#include <lnfree/nn/decoder.hpp>

#include <omp.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/device/profiled.hpp>
#include <lnfree/model.hpp>

#include "support/device.hpp"
#include "support/random_batch.hpp"
#include "support/reference.hpp"

using namespace lnfree;
using lnfree::test::RandomBatch;
using lnfree::test::TestDevice;

namespace {

#ifdef LNFREE_TEST_CUDA
using Devices = std::tuple<TestDevice>;
#else
using Devices = std::tuple<TestDevice, Reference<float>, Reference<double>>;
#endif

template <class D = TestDevice, class Observer = NoObserver>
using Model = Decoder<tiny, LayerNorm, GELU, D, Observer>;

/// Large enough that every loop of a step uses two threads.
constexpr DecoderConfig wide{
    .layers = 2, .heads = 4, .width = 64, .ffn_width = 256, .context = 64, .vocab_size = 300};

/// Every parameter, or every gradient, by name.
template <class M>
std::map<std::string, std::vector<double>> tensors(M& model, bool gradients = false) {
  auto& set = model.parameters();
  std::map<std::string, std::vector<double>> all;
  for (const auto& p : set.all()) {
    const auto values = set.read(model.device(), p, gradients ? set.gradients() : set.masters());
    all[p.name].assign(values.begin(), values.end());
  }
  return all;
}

/// Losses and gradient norms of four steps, an entropy, and every parameter after them.
std::pair<std::vector<double>, std::map<std::string, std::vector<double>>> train_wide(int threads) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  const RandomBatch random({4, 64}, wide.vocab_size, 3);
  Decoder<wide, LayerNorm, LeakyLearnable<Scope::global>, TestDevice, EntropyObserver> model(4);
  model.initialize(9);
  AdamW optimizer(model);
  std::vector<double> trace;
  for (std::uint64_t step = 0; step < 4; ++step) {
    trace.push_back(model.forward_backward(random.batch(), {.dropout = {0.1, 1, step}}));
    trace.push_back(optimizer.step(1e-3));
  }
  trace.push_back(model.observer().head_entropy(1, 3));
  omp_set_num_threads(before);
  return {trace, tensors(model)};
}

template <class M>
std::vector<std::string> slopes(M& model) {
  std::vector<std::string> names;
  for (const auto& p : model.parameters().all()) {
    if (p.kind == ParameterKind::slope) names.push_back(p.name);
  }
  return names;
}

template <class F>
std::string message(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(decoder)

BOOST_AUTO_TEST_CASE(parameters_are_gpt2_s) {
  Model<> model(1);
  const std::map<std::string, std::vector<Index>> expected{
      {"wte.weight", {37, 15}}, {"wpe.weight", {11, 15}}, {"ln_f.weight", {15}}, {"ln_f.bias", {15}}};
  const std::map<std::string, std::vector<Index>> of_a_layer{{"ln_1.weight", {15}},
                                                             {"ln_1.bias", {15}},
                                                             {"attn.c_attn.weight", {15, 45}},
                                                             {"attn.c_attn.bias", {45}},
                                                             {"attn.c_proj.weight", {15, 15}},
                                                             {"ln_2.weight", {15}},
                                                             {"ln_2.bias", {15}},
                                                             {"mlp.c_fc.weight", {15, 44}},
                                                             {"mlp.c_proj.weight", {44, 15}}};
  auto all = expected;
  for (const auto& [name, shape] : of_a_layer) {
    for (const char* layer : {"h.0.", "h.1."}) all[layer + name] = shape;
  }
  BOOST_TEST(model.parameters().all().size() == all.size());
  Index learned = 0;
  for (const auto& p : model.parameters().all()) {
    BOOST_REQUIRE_MESSAGE(all.count(p.name) == 1, p.name);
    BOOST_TEST((all[p.name] == p.shape), p.name);
    learned += p.size() - (p.name.ends_with("c_attn.bias") ? 15 : 0);  // values have no bias
  }
  BOOST_TEST(model.parameters().trainable() == learned);
}

BOOST_AUTO_TEST_CASE(a_global_slope_is_one_parameter) {
  Decoder<tiny, Identity, LeakyLearnable<Scope::per_layer>, TestDevice, NoObserver> per_layer(1);
  Decoder<tiny, Identity, LeakyLearnable<Scope::global>, TestDevice, NoObserver> global(1);
  BOOST_TEST((slopes(per_layer) == std::vector<std::string>{"h.0.mlp.act.slope", "h.1.mlp.act.slope"}));
  BOOST_TEST((slopes(global) == std::vector<std::string>{"act.slope"}));

  // From equal values, the gradient of the shared one is the sum of those of the layers.
  per_layer.initialize(1);
  global.initialize(1);
  const RandomBatch random({1, 9}, tiny.vocab_size, 3);
  BOOST_TEST(per_layer.forward_backward(random.batch()) == global.forward_backward(random.batch()));
  auto each = tensors(per_layer, true), shared = tensors(global, true);
  const double sum = each["h.0.mlp.act.slope"][0] + each["h.1.mlp.act.slope"][0];
  BOOST_TEST(each["h.0.mlp.act.slope"][0] != 0.0);
  BOOST_TEST(shared["act.slope"][0] == sum, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(tensors(global)["act.slope"][0] == 0.01f);
}

BOOST_AUTO_TEST_CASE(a_seed_gives_the_same_weights_everywhere) {
  Model<> here(1);
  Model<Reference<double>> exact(2);
  Decoder<tiny, Identity, ReLU, TestDevice, EntropyObserver> other(1, Purpose::evaluation);
  here.initialize(42);
  exact.initialize(42);
  other.initialize(42);
  const auto ours = tensors(here), other_ones = tensors(other);
  for (const auto& [name, values] : tensors(exact)) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      BOOST_REQUIRE_EQUAL(ours.at(name)[i], static_cast<double>(static_cast<float>(values[i])));
    }
  }
  for (const auto& [name, values] : other_ones) BOOST_TEST((ours.at(name) == values), name);

  here.initialize(43);
  BOOST_TEST((tensors(here).at("wte.weight") != ours.at("wte.weight")));
  BOOST_TEST((ours.at("h.0.mlp.c_fc.weight") != ours.at("h.1.mlp.c_fc.weight")));
}

BOOST_AUTO_TEST_CASE(initial_values) {
  Decoder<wide, LayerNorm, GELU, TestDevice, NoObserver> model(1);
  model.initialize(1, 0.5);
  for (const auto& [name, values] : tensors(model)) {
    double sum = 0, squares = 0;
    for (const double value : values) {
      sum += value;
      squares += value * value;
    }
    const double count = static_cast<double>(values.size());
    if (name.ends_with(".bias")) {
      BOOST_TEST(squares == 0, name);
    } else if (name.find("ln_") != std::string::npos) {
      BOOST_TEST(sum == count, name);
    } else {
      BOOST_TEST(std::abs(std::sqrt(squares / count) - 0.5) < 0.5 * 5 / std::sqrt(2 * count), name);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_model_of_zeros_knows_nothing) {
  Model<> model(1);
  const std::vector<float> zeros(static_cast<std::size_t>(tiny.vocab_size * tiny.width));
  model.parameters().write(model.device(), model.parameters().all().front(), zeros.data());  // equal logits
  const RandomBatch random({1, 9}, tiny.vocab_size, 3);
  BOOST_TEST(model.loss(random.batch()) == std::log(37.0), boost::test_tools::tolerance(1e-6));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(accumulated_gradients_are_the_larger_batch_s, D, Devices) {
  const RandomBatch random({3, 9}, tiny.vocab_size, 3, true);
  Model<D> whole(3), parts(1);
  whole.initialize(1);
  parts.initialize(1);
  const double loss = whole.forward_backward(random.batch());
  double sum = 0;
  for (int b = 0; b < 3; ++b) sum += parts.forward_backward(random.part(b, 1), {.gradient_scale = 1.0 / 3});
  const bool is_double = std::is_same_v<typename D::Scalar, double>;
  BOOST_TEST(sum / 3 == loss, boost::test_tools::tolerance(is_double ? 1e-13 : 1e-6));
  const auto expected = tensors(whole, true);
  for (const auto& [name, values] : tensors(parts, true)) {
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      difference += std::pow(values[i] - expected.at(name)[i], 2);
      norm += std::pow(expected.at(name)[i], 2);
    }
    BOOST_TEST(std::sqrt(difference) <= (is_double ? 1e-12 : 2e-5) * std::sqrt(norm), name);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(evaluation_has_the_same_loss_in_less_memory, D, Devices) {
  const RandomBatch random({3, 9}, tiny.vocab_size, 3);
  Model<D, EntropyObserver> training(3), evaluation(3, Purpose::evaluation);
  training.initialize(1);
  evaluation.initialize(1);
  const double loss = training.loss(random.batch());
  BOOST_TEST(evaluation.loss(random.batch()) == loss);
  BOOST_TEST((evaluation.observer().head_entropy() == training.observer().head_entropy()));
  BOOST_TEST(training.forward_backward(random.batch(), {.observe = false}) == loss,
             boost::test_tools::tolerance(1e-6));
  BOOST_TEST((evaluation.observer().head_entropy() == training.observer().head_entropy()));
  BOOST_TEST(evaluation.memory().gradients == 0u);
  BOOST_TEST(evaluation.memory().parameters == training.memory().parameters);
  BOOST_TEST(evaluation.memory().activations < training.memory().activations);
  BOOST_TEST(training.memory().total() ==
             training.memory().parameters + training.memory().gradients + training.memory().activations);
}

// In an evaluation a block's input and output are the same memory, which both parallel sublayers read.
BOOST_AUTO_TEST_CASE_TEMPLATE(evaluation_of_parallel_sublayers, D, Devices) {
  constexpr DecoderConfig parallel = [] {
    DecoderConfig config = tiny;
    config.parallel_residual = true;
    return config;
  }();
  const RandomBatch random({3, 9}, tiny.vocab_size, 3);
  const auto check = [&]<class N>(N) {
    using M = Decoder<parallel, N, ReLU, D, NoObserver>;
    M training(3), evaluation(3, Purpose::evaluation);
    training.initialize(1);
    evaluation.initialize(1);
    BOOST_TEST(evaluation.loss(random.batch()) == training.loss(random.batch()));
    Decoder<tiny, N, ReLU, D, NoObserver> sequential(3);
    sequential.initialize(1);
    BOOST_TEST(std::abs(sequential.loss(random.batch()) - training.loss(random.batch())) > 1e-6);
  };
  check(Identity{});
  check(LayerNorm{});
}

namespace {

/// Adds the block's input once more, at its end.
struct LateAddend {
  static constexpr std::string_view name = "late_addend";
  static auto wire(auto& layout, auto x) { return layout.add(x, layout.feed_forward(layout.attention(x))); }
};

}  // namespace

// Also with layers that need memory of different sizes, in every layout.
BOOST_AUTO_TEST_CASE_TEMPLATE(evaluation_is_the_loss_of_training, D, Devices) {
  const RandomBatch random({3, 9}, tiny.vocab_size, 3);
  const auto check = [&]<class L>(L) {
    using M = Decoder<tiny, Identity, Layerwise<ReLU, 1, GELU>, D, NoObserver, L>;
    M training(3), evaluation(3, Purpose::evaluation);
    training.initialize(1, 0.5);
    evaluation.initialize(1, 0.5);
    BOOST_TEST(evaluation.loss(random.batch()) == training.loss(random.batch()), L::name);
    BOOST_TEST(evaluation.memory().activations < training.memory().activations);
  };
  check(PreNorm{});
  check(Parallel{});
  check(PostNorm{});
  check(LateAddend{});
}

namespace {

struct UsesItsBranchTwice {
  static constexpr std::string_view name = "uses_its_branch_twice";
  static auto wire(auto& layout, auto x) {
    const auto attended = layout.attention(x);
    const auto fed = layout.feed_forward(attended);
    return layout.add(layout.add(x, attended), fed);
  }
};
struct AttendsTwice {
  static constexpr std::string_view name = "attends_twice";
  static auto wire(auto& layout, auto x) {
    return layout.feed_forward(layout.attention(layout.attention(x)));
  }
};
struct ForgetsItsAttention {
  static constexpr std::string_view name = "forgets_its_attention";
  static auto wire(auto& layout, auto x) {
    layout.attention(x);
    return layout.add(x, layout.feed_forward(x));
  }
};
struct ReturnsItsInput {
  static constexpr std::string_view name = "returns_its_input";
  static auto wire(auto& layout, auto x) {
    layout.feed_forward(layout.attention(x));
    return x;
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(layouts_that_make_no_sense_are_refused_in_a_sentence) {
  const auto refused = []<class L>(L, const std::string& sentence) {
    using M = Decoder<tiny, Identity, ReLU, TestDevice, NoObserver, L>;
    BOOST_CHECK_EXCEPTION(M(1), Error, [&](const Error& error) {
      return std::string(error.what()).find(sentence) != std::string::npos;
    });
  };
  refused(UsesItsBranchTwice{}, "adds a branch that it uses elsewhere");
  refused(AttendsTwice{}, "must call attention() and feed_forward() once each");
  refused(ForgetsItsAttention{}, "computes a value that it does not use");
  refused(ReturnsItsInput{}, "must return the output of its last step");
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_later_token_changes_no_earlier_loss, D, Devices) {
  Model<D> model(2);
  model.initialize(1, 0.5);
  const RandomBatch random({2, 9}, tiny.vocab_size, 3, true);
  const auto loss_at = [&](int position, int changed) {
    auto tokens = random.tokens;
    if (changed >= 0) tokens[changed] = (tokens[changed] + 1) % tiny.vocab_size;
    std::vector<std::int32_t> targets(tokens.size(), -1);
    targets[position] = random.targets[position];
    return model.loss({random.shape, tokens, targets});
  };
  for (int position = 0; position < 9; ++position) {
    const double loss = loss_at(position, -1);
    for (int changed = 0; changed < 18; ++changed) {
      const bool seen = changed <= position;  // those from 9 on are another sequence's
      BOOST_TEST((loss_at(position, changed) != loss) == seen,
                 "token " << changed << " and loss " << position);
    }
  }
}

// A shorter sequence gives the same as the beginning of a longer one.
BOOST_AUTO_TEST_CASE_TEMPLATE(shorter_sequences, D, Devices) {
  const RandomBatch random({1, 9}, tiny.vocab_size, 3, true);
  Model<D, EntropyObserver> model(3);
  model.initialize(1, 0.5);
  for (const int length : {1, 4, 9}) {
    std::vector<std::int32_t> tokens, targets, long_targets = random.targets;
    std::fill(long_targets.begin() + length, long_targets.end(), -1);
    for (int copy = 0; copy < 3; ++copy) {
      tokens.insert(tokens.end(), random.tokens.begin(), random.tokens.begin() + length);
      targets.insert(targets.end(), random.targets.begin(), random.targets.begin() + length);
    }
    const double loss = model.forward_backward({{3, length}, tokens, targets});
    BOOST_TEST(loss == model.loss({{1, 9}, random.tokens, long_targets}), boost::test_tools::tolerance(2e-6));
  }
  BOOST_TEST(model.observer().nonfinite_rows() == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(next_logits_give_the_last_position_s_loss, D, Devices) {
  Model<D> model(1);
  model.initialize(1, 0.5);
  const RandomBatch random({1, 9}, tiny.vocab_size, 3, true);
  std::vector<std::int32_t> targets(9, -1);
  targets[8] = 5;
  std::vector<std::int32_t> longer{1, 2, 3};  // beyond the context: not seen
  longer.insert(longer.end(), random.tokens.begin(), random.tokens.end());
  for (const auto& tokens : {random.tokens, longer}) {
    const std::vector<double> logits = model.next_logits(tokens);
    BOOST_TEST(logits.size() == 37u);
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit);
    BOOST_TEST(std::log(sum) - logits[5] == model.loss({{1, 9}, random.tokens, targets}),
               boost::test_tools::tolerance(1e-5));
  }
}

BOOST_AUTO_TEST_CASE(dropout_is_of_training_alone) {
  Model<> model(3);
  model.initialize(1, 0.5);
  const RandomBatch random({3, 9}, tiny.vocab_size, 3);
  const double plain = model.loss(random.batch());
  const auto dropped = [&](std::uint64_t seed, std::uint64_t draw) {
    return model.forward_backward(random.batch(), {.dropout = {0.5, seed, draw}});
  };
  BOOST_TEST(model.forward_backward(random.batch()) == plain, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(std::abs(dropped(1, 0) - plain) > 1e-3);
  BOOST_TEST(dropped(1, 0) == dropped(1, 0));
  BOOST_TEST(dropped(1, 0) != dropped(1, 1));
  BOOST_TEST(dropped(1, 0) != dropped(2, 0));
  BOOST_TEST(model.loss(random.batch()) == plain);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(nonfinite_rows_reach_the_observer, D, Devices) {
  Model<D, EntropyObserver> model(2);
  model.initialize(1);
  auto& positions = model.parameters().all()[1];
  BOOST_REQUIRE(positions.name == "wpe.weight");
  auto values = model.parameters().read(model.device(), positions);
  values[3 * 15 + 2] = NAN;
  model.parameters().write(model.device(), positions, values.data());
  const RandomBatch random({2, 9}, tiny.vocab_size, 3);
  model.loss(random.batch());
  // From the fourth position on, in each of 2 layers, 2 sequences, 3 heads.
  BOOST_TEST(model.observer().nonfinite_rows() == 2 * 2 * 3 * (9 - 3));
  for (int h = 0; h < 3; ++h) {
    const double most = (std::log(1.0) + std::log(2.0) + std::log(3.0)) / 3;
    BOOST_TEST(model.observer().head_entropy(1, h) > 0.5 * most);
    BOOST_TEST(model.observer().head_entropy(1, h) <= most + 1e-6);
  }
}

#ifndef LNFREE_TEST_CUDA
// Under AddressSanitizer this fails if more threads than planned use scratch memory.
BOOST_AUTO_TEST_CASE(threads_added_after_a_model_is_built_stay_in_its_memory) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const RandomBatch random({4, 64}, wide.vocab_size, 3);
  Decoder<wide, LayerNorm, LeakyLearnable<Scope::global>, Cpu, EntropyObserver> model(4);
  model.initialize(9);
  BOOST_TEST(model.device().planned_threads == 1);
  const double alone = model.loss(random.batch());
  omp_set_num_threads(8);
  BOOST_TEST(attention_workspace(model.device(), {4, 64, 4, 16}) == cpu::HeadWorkspace::size({4, 64, 4, 16}));
  const double together = model.loss(random.batch());
  if constexpr (cpu::products_by_eigen) {
    BOOST_TEST(together == alone, boost::test_tools::tolerance(1e-7));
  } else {
    BOOST_TEST(together == alone);
  }
  omp_set_num_threads(before);
}
#endif

BOOST_AUTO_TEST_CASE(a_profiled_device_computes_the_same_and_accounts_for_it) {
  const RandomBatch random({2, 9}, tiny.vocab_size, 3);
  const auto train = [&](auto& model) {
    model.initialize(4);
    AdamW optimizer(model);
    std::vector<double> trace;
    for (int step = 0; step < 2; ++step) {
      trace.push_back(model.forward_backward(random.batch(), {.dropout = {0.1, 1, 0}}));
      trace.push_back(optimizer.step(1e-3));
    }
    return trace;
  };
  Model<TestDevice, EntropyObserver> plain(2);
  OnDevice<Model<TestDevice, EntropyObserver>, Profiled<TestDevice>> profiled(2);
  const auto trace = train(plain);
  BOOST_TEST(train(profiled) == trace, boost::test_tools::per_element());
  BOOST_TEST(profiled.device().profile.entries().empty());
  profiled.device().profile.start();
  BOOST_TEST(train(profiled) == trace, boost::test_tools::per_element());
  profiled.device().profile.stop();
  BOOST_TEST(train(profiled) == trace, boost::test_tools::per_element());

  std::map<std::string, std::int64_t> calls;
  double product_operations = 0;
  for (const auto& [name, entry] : profiled.device().profile.entries()) {
    const std::string primitive = name.substr(0, name.find(' '));
    calls[primitive] += entry.calls;
    if (primitive == "gemm") product_operations += entry.work.operations;
    BOOST_TEST(entry.seconds > 0);
    BOOST_TEST(entry.work.moved() > 0, name);
  }
  BOOST_TEST(calls["attention_forward"] == 2 * tiny.layers);
  BOOST_TEST(calls["norm_backward"] == 2 * (2 * tiny.layers + 1));
  BOOST_TEST(calls["adamw"] == 2 * 4);  // weights, embeddings, biases and norms
  // Six for every weight of a product and every token.
  const double weights = tiny.layers * (4.0 * tiny.width + 2.0 * tiny.ffn_width) * tiny.width +
                         double(tiny.vocab_size) * tiny.width;
  BOOST_TEST(product_operations == 2 * 6 * weights * 2 * 9);
}

BOOST_AUTO_TEST_CASE(two_runs_are_the_same_bit_for_bit) {
  for (const int threads : {1, 2}) {
    const auto first = train_wide(threads), second = train_wide(threads);
    BOOST_TEST(first.first == second.first, boost::test_tools::per_element());
    BOOST_TEST((first.second == second.second));
    BOOST_TEST(first.first[6] < first.first[0]);
  }
}

#ifndef LNFREE_TEST_CUDA
// Eigen may round differently at the borders between threads.
BOOST_AUTO_TEST_CASE(a_run_is_the_same_at_any_number_of_threads,
                     *boost::unit_test::enable_if<!cpu::products_by_eigen>()) {
  const auto alone = train_wide(1);
  for (const int threads : {2, 3, 8}) {
    const auto together = train_wide(threads);
    BOOST_TEST(together.first == alone.first, boost::test_tools::per_element());
    BOOST_TEST((together.second == alone.second));
  }
}
#endif

BOOST_AUTO_TEST_CASE(errors_say_what_is_wrong) {
  Model<> model(2);
  model.initialize(1);
  const RandomBatch large({3, 9}, tiny.vocab_size, 3), good({2, 9}, tiny.vocab_size, 3);
  BOOST_TEST(message([] { Model<> none(0); }) == "the batch size must be at least 1, not 0");
  BOOST_TEST(message([&] { model.loss(large.batch()); }) ==
             "a batch of 3 x 9 tokens does not fit this model, which was built for up to 2 x 9");
  BOOST_TEST(message([&] { model.forward_backward({{1, 10}, {}, {}}); }).find("1 x 10") != std::string::npos);
  BOOST_TEST(message([&] { model.loss({{0, 9}, {}, {}}); }).find("0 x 9") != std::string::npos);
  BOOST_TEST(message([&] { model.loss({{2, 9}, good.tokens, std::span(good.targets).first(17)}); }) ==
             "a batch of 2 x 9 needs 18 tokens and targets, not 18 and 17");
  auto tokens = good.tokens;
  tokens[11] = 37;
  BOOST_TEST(message([&] { model.loss({{2, 9}, tokens, good.targets}); }) ==
             "token 37 at position 11 of a batch is outside the model's vocabulary of 37");
  tokens[11] = -1;
  BOOST_TEST(message([&] { model.next_logits(tokens); }).find("token -1") != std::string::npos);
  auto targets = good.targets;
  targets[4] = 37;
  BOOST_TEST(message([&] { model.loss({{2, 9}, good.tokens, targets}); }) ==
             "target 37 is outside the model's vocabulary of 37");
  BOOST_TEST(message([&] { model.next_logits({}); }) == "next_logits needs at least one token");
  Model<> evaluation(2, Purpose::evaluation);
  BOOST_TEST(message([&] { evaluation.forward_backward(good.batch()); }) ==
             "forward_backward needs a model built with Purpose::training");
  BOOST_TEST(std::isfinite(model.loss(good.batch())));  // and the model is unchanged
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_model_without_weights_computes_nothing, D, Devices) {
  const RandomBatch random({1, 9}, tiny.vocab_size, 3);
  const auto check_refused = [&](Model<D>& model) {
    const auto refused = [&](auto pass) {
      BOOST_TEST(message(pass).find("weights are all zero") != std::string::npos);
      BOOST_TEST(message(pass).find("initialize()") != std::string::npos);
    };
    refused([&] { model.forward_backward(random.batch()); });
    refused([&] { model.loss(random.batch()); });
    refused([&] { model.next_logits(random.tokens); });
  };
  const auto check_computes = [&](Model<D>& model) {
    BOOST_TEST(std::isfinite(model.forward_backward(random.batch())));
    BOOST_TEST(model.next_logits(random.tokens).size() == std::size_t(tiny.vocab_size));
  };
  Model<D> model(1);
  check_refused(model);
  model.initialize(1);
  check_computes(model);

  // Users may write their own weights, through the set or through its pointers. Explicitly written zeros are
  // accepted.
  using Number = typename D::Accumulator;
  const std::vector<Number> zeros(static_cast<std::size_t>(tiny.vocab_size * tiny.width));
  Model<D> written(1);
  written.parameters().write(written.device(), written.parameters().all().front(), zeros.data());
  check_computes(written);

  Model<D> filled(1);
  check_refused(filled);
  const auto& slot = filled.parameters().all().back();
  const typename D::Scalar number{1};
  copy_to_device(filled.device(), slot.value + slot.size() - 1, &number, sizeof(number));
  check_computes(filled);
}

BOOST_AUTO_TEST_CASE(a_batch_without_targets_has_no_loss_and_no_gradient) {
  Model<> model(1);
  model.initialize(1);
  const RandomBatch random({1, 9}, tiny.vocab_size, 3);
  const std::vector<std::int32_t> none(9, -1);
  BOOST_TEST(model.forward_backward({{1, 9}, random.tokens, none}) == 0.0);
  BOOST_TEST(gradient_norm(model.device(), model.parameters()) == 0.0);
}

BOOST_AUTO_TEST_SUITE_END()
