#include <lnfree/objective/distillation.hpp>

#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>
#include <lnfree/nn/teacher.hpp>
#include <lnfree/objective/sparse_hidden.hpp>
#include <lnfree/train/gradient_check.hpp>

#include "support/device.hpp"
#include "support/random_batch.hpp"
#include "support/seed.hpp"
#include "support/temporary_folder.hpp"

using namespace lnfree;

namespace {

using Devices = std::tuple<Cpu, Reference<double>>;

template <class D>
using Student = Decoder<tiny, Identity, ReLU, D, NoObserver, PreNorm, Distillation>;
/// Another architecture with the student's vocabulary.
constexpr DecoderConfig teacher_shape{
    .layers = 3, .heads = 2, .width = 12, .ffn_width = 20, .context = 9, .vocab_size = tiny.vocab_size};
template <class D>
using TeacherModel = Decoder<teacher_shape, LayerNorm, GELU, D>;

template <class D>
std::shared_ptr<TeacherModel<D>> make_teacher(int batch) {
  auto teacher = std::make_shared<TeacherModel<D>>(batch, Purpose::evaluation);
  teacher->initialize(77, 0.4);
  return teacher;
}

std::vector<double> log_softmax(std::vector<double> logits, double temperature) {
  double sum = 0;
  for (double& logit : logits) sum += std::exp(logit /= temperature);
  for (double& logit : logits) logit -= std::log(sum);
  return logits;
}

/// The penalty added to the mean cross-entropy, from next_logits() of both models.
template <class S, class T>
double expected_penalty(S& student, T& teacher, const test::RandomBatch& random, int length,
                        const DistillationOptions& options) {
  double divergence = 0, loss = 0;
  int counted = 0;
  for (std::size_t i = 0; i < random.targets.size(); ++i) {
    if (random.targets[i] < 0) continue;
    ++counted;
    const std::size_t first = i / static_cast<std::size_t>(length) * static_cast<std::size_t>(length);
    const std::span text(random.tokens.data() + first, i - first + 1);
    const auto of_student = student.next_logits(text), of_teacher = teacher.next_logits(text);
    loss -= log_softmax(of_student, 1)[std::size_t(random.targets[i])];
    const auto s = log_softmax(of_student, options.temperature),
               t = log_softmax(of_teacher, options.temperature);
    for (std::size_t j = 0; j < s.size(); ++j) divergence += std::exp(t[j]) * (t[j] - s[j]);
  }
  return options.weight * (options.temperature * options.temperature * divergence - loss) / counted;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(distillation)

BOOST_AUTO_TEST_CASE_TEMPLATE(the_penalty_is_the_divergence_from_the_teacher, D, Devices) {
  const test::RandomBatch random({3, 9}, tiny.vocab_size, test::seed(), true);
  Student<D> student(3);
  student.initialize(3, 0.4);
  const auto teacher = make_teacher<D>(3);
  student.objective().set_teacher(teacher_of(teacher));
  for (const DistillationOptions& options :
       {DistillationOptions{0.5, 1}, {1, 1}, {0.3, 2.5}, {1, 0.7}, {0, 2}}) {
    student.objective().options() = options;
    const double loss = student.forward_backward(random.batch(), {.gradient_scale = 0.25});
    BOOST_TEST(student.penalty() == expected_penalty(student, *teacher, random, 9, options),
               boost::test_tools::tolerance(2e-4));
    BOOST_TEST(loss == student.loss(random.batch()), boost::test_tools::tolerance(1e-6));  // as ever
  }
}

BOOST_AUTO_TEST_CASE(gradients_are_those_of_what_is_minimized) {
  for (const DistillationOptions& options : {DistillationOptions{0.5, 1}, {1, 3}, {0.25, 0.6}}) {
    using Smooth = Decoder<tiny, LayerNorm, GELU, Reference<double>, NoObserver, PreNorm, Distillation>;
    // A sum of larger numbers, so wider steps avoid their rounding.
    const auto report = gradient_check<Smooth>({.step = 5e-5}, [&](auto& student) {
      student.objective().options() = options;
      student.objective().set_teacher(teacher_of(make_teacher<Reference<double>>(student.max_batch())));
    });
    BOOST_TEST(report.worst() < 1e-6, report.text());
  }
  using Sparse = Decoder<tiny, Identity, GELU, Reference<double>, NoObserver, PreNorm, SparseHidden>;
  const auto report =
      gradient_check<Sparse>({}, [](auto& model) { model.objective().options().coefficient = 0.1; });
  BOOST_TEST(report.worst() < 1e-6, report.text());
}

/// Keeps the stream after each block.
class Streams {
 public:
  static constexpr std::string_view name = "streams";
  static constexpr bool observes_stream_values = true;
  Streams(int layers, int) : of_layer(static_cast<std::size_t>(layers)) {}
  void reset() {}
  template <class T>
  void record_stream(int layer, BatchShape, Matrix<const T> x) {
    of_layer[static_cast<std::size_t>(layer)].assign(x.data, x.data + x.size());
  }
  std::vector<std::vector<double>> of_layer;
};

/// As wide as the student, with norms.
constexpr DecoderConfig wide_shape{.layers = 3,
                                   .heads = 3,
                                   .width = tiny.width,
                                   .ffn_width = 20,
                                   .context = tiny.context,
                                   .vocab_size = tiny.vocab_size};
template <class D>
using WideTeacher = Decoder<wide_shape, LayerNorm, GELU, D, Streams>;

/// 2 - 2 cos of the rows of two streams, the mean.
double mean_distance(const std::vector<double>& a, const std::vector<double>& b, int width) {
  double sum = 0;
  const std::size_t columns = static_cast<std::size_t>(width), rows = a.size() / columns;
  for (std::size_t i = 0; i < rows; ++i) {
    double ab = 0, aa = 0, bb = 0;
    for (std::size_t j = i * columns; j < (i + 1) * columns; ++j) {
      ab += a[j] * b[j];
      aa += a[j] * a[j];
      bb += b[j] * b[j];
    }
    sum += 2 - 2 * ab / std::sqrt(aa * bb);
  }
  return sum / static_cast<double>(rows);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(streams_are_compared_by_their_directions, D, Devices) {
  LNFREE_LOG_SEED();
  using Watched = Decoder<tiny, Identity, ReLU, D, Streams, PreNorm, Distillation>;
  const test::RandomBatch random({3, 9}, tiny.vocab_size, test::seed(), true);
  WideTeacher<D> watched(3);
  watched.initialize(77, 0.4);
  watched.loss(random.batch());
  const auto& of_teacher = watched.observer().of_layer;
  for (const char* layers : {"0,1", "1:2", "0:2,1:0", ""}) {
    for (const double weight : {0.0, 0.7}) {
      Watched student(3);
      student.initialize(3, 0.4);
      auto teacher = std::make_shared<WideTeacher<D>>(3, Purpose::evaluation);
      teacher->initialize(77, 0.4);
      student.objective().options().weight = 0;
      student.objective().options().layers = layers;
      student.objective().options().hidden_weight = weight;
      learn_from(student, teacher);
      const double loss = student.forward_backward(random.batch(), {.gradient_scale = 0.25});
      double expected = 0;
      const auto pairs = layer_pairs(layers);
      for (const auto& [own, other] : pairs) {
        expected += weight / static_cast<double>(pairs.size()) *
                    mean_distance(student.observer().of_layer[std::size_t(own)],
                                  of_teacher[std::size_t(other)], tiny.width);
      }
      BOOST_TEST(student.penalty() == expected, boost::test_tools::tolerance(2e-5));
      BOOST_TEST((expected > 0.05) == (weight > 0 && *layers != 0));
      BOOST_TEST(loss == student.loss(random.batch()), boost::test_tools::tolerance(1e-6));  // as ever
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_are_those_of_distances_of_streams) {
  for (const char* layers : {"0", "1:2,0:1"}) {
    using Smooth = Decoder<tiny, LayerNorm, GELU, Reference<double>, NoObserver, PreNorm, Distillation>;
    const auto report = gradient_check<Smooth>({.elements = 6, .step = 5e-5}, [&](auto& student) {
      student.objective().options().weight = 0.3;
      student.objective().options().layers = layers;
      student.objective().options().hidden_weight = 1.5;
      auto teacher =
          std::make_shared<WideTeacher<Reference<double>>>(student.max_batch(), Purpose::evaluation);
      teacher->initialize(77, 0.4);
      learn_from(student, teacher);
    });
    BOOST_TEST(report.worst() < 1e-6, report.text());
  }
}

// From a teacher whose stream is as long as it likes.
BOOST_AUTO_TEST_CASE(a_student_learns_the_streams_of_its_teacher) {
  const test::RandomBatch random({3, 9}, tiny.vocab_size, 5);
  const auto distance = [&](double weight) {
    Student<Cpu> student(3);
    student.initialize(3);
    auto teacher = std::make_shared<WideTeacher<Cpu>>(3, Purpose::evaluation);
    teacher->initialize(77, 0.4);
    const auto learn = [&](double hidden_weight) {
      student.objective().options().weight = 0;
      student.objective().options().layers = "0,1:2";
      student.objective().options().hidden_weight = hidden_weight;
      learn_from(student, teacher);
    };
    learn(weight);
    AdamW optimizer(student, {.weight_decay = 0});
    for (int step = 0; step < 150; ++step) {
      student.forward_backward(random.batch());
      optimizer.step(3e-3);
    }
    learn(1);
    student.forward_backward(random.batch());
    return student.penalty();
  };
  const double taught = distance(1), untaught = distance(0);
  BOOST_TEST(taught < untaught / 4, taught << " and " << untaught);
}

BOOST_AUTO_TEST_CASE(layers_as_text) {
  const auto pairs = layer_pairs("2,5:1,0");
  BOOST_REQUIRE(pairs.size() == 3u);
  BOOST_TEST((pairs[0].student == 2 && pairs[0].teacher == 2));
  BOOST_TEST((pairs[1].student == 5 && pairs[1].teacher == 1));
  BOOST_TEST((pairs[2].student == 0 && pairs[2].teacher == 0));
  BOOST_TEST(layer_pairs("").empty());
  for (const char* bad : {",", "1,", ",1", "1,,2", "-1", "a", "1:", ":1", "1:2:3", "1 ,2", "1.5",
                          "99999999999", "1,1", "1:0,1:2", "+1"})
    BOOST_CHECK_THROW(layer_pairs(bad), Error);
}

BOOST_AUTO_TEST_CASE(layers_that_cannot_be_learned_are_refused) {
  Student<Cpu> student(2);
  student.initialize(3);
  const auto refuses = [&](auto teacher, const char* layers, auto... words) {
    student.objective().options().layers = layers;
    BOOST_CHECK_EXCEPTION(learn_from(student, teacher), Error, contains(words...));
  };
  const auto wide = std::make_shared<WideTeacher<Cpu>>(2, Purpose::evaluation);
  wide->initialize(1);
  refuses(wide, "2", "no block 2", "student", "0 to 1");
  refuses(wide, "1:3", "no block 3", "teacher", "0 to 2");
  refuses(wide, "1,x", "1,x", "numbers from 0");
  refuses(make_teacher<Cpu>(2), "1", "width 12", "width 15");
  // Layers, and a teacher that was given without them.
  const test::RandomBatch random({2, 9}, tiny.vocab_size, 5);
  student.objective().options().layers = "1";
  student.objective().set_teacher(teacher_of(wide));
  BOOST_CHECK_EXCEPTION(student.forward_backward(random.batch()), Error, contains("learn_from"));
  learn_from(student, wide);
  student.forward_backward(random.batch());
  student.objective().options().hidden_weight = -1;
  BOOST_CHECK_THROW(student.forward_backward(random.batch()), Error);
}

// Without targets there is nothing to learn, and the teacher has read nothing.
BOOST_AUTO_TEST_CASE(a_pass_without_targets_teaches_nothing) {
  Student<Cpu> student(2);
  student.initialize(3);
  auto teacher = std::make_shared<WideTeacher<Cpu>>(2, Purpose::evaluation);
  teacher->initialize(77, 0.4);
  student.objective().options().layers = "1";
  learn_from(student, teacher);
  test::RandomBatch random({2, 9}, tiny.vocab_size, 5);
  std::fill(random.targets.begin(), random.targets.end(), -1);
  student.forward_backward(random.batch());
  BOOST_TEST(student.penalty() == 0);
}

BOOST_AUTO_TEST_CASE(a_student_comes_near_its_teacher) {
  const test::RandomBatch random({3, 9}, tiny.vocab_size, 5);
  Student<Cpu> student(3);
  student.initialize(3);
  const auto teacher = make_teacher<Cpu>(3);
  student.objective().set_teacher(teacher_of(teacher));
  student.objective().options() = {.weight = 1};
  AdamW optimizer(student, {.weight_decay = 0});
  const auto divergence = [&] {
    return expected_penalty(student, *teacher, random, 9, {.weight = 1}) + student.loss(random.batch());
  };
  const double before = divergence();
  for (int step = 0; step < 150; ++step) {
    student.forward_backward(random.batch());
    optimizer.step(3e-3);
  }
  BOOST_TEST(divergence() < before / 5, before << " fell to " << divergence());
}

BOOST_AUTO_TEST_CASE(without_a_teacher_it_is_the_cross_entropy) {
  const test::RandomBatch random({2, 9}, tiny.vocab_size, 5);
  Student<Cpu> student(2);
  Decoder<tiny, Identity, ReLU> plain(2);
  student.initialize(3, 0.3);
  plain.initialize(3, 0.3);
  BOOST_TEST(student.forward_backward(random.batch()) == plain.forward_backward(random.batch()));
  BOOST_TEST(student.penalty() == 0);
  const auto gradient = [](auto& model) {
    const auto& p = model.parameters().all().front();
    return model.parameters().read(model.device(), p, model.parameters().gradients());
  };
  BOOST_TEST(gradient(student) == gradient(plain), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_cannot_be_is_refused) {
  Student<Cpu> student(2);
  student.initialize(3);
  const test::RandomBatch random({2, 9}, tiny.vocab_size, 5);
  for (const DistillationOptions& options : {DistillationOptions{1.5, 1}, {-0.1, 1}, {0.5, 0}, {0.5, NAN}}) {
    student.objective().options() = options;
    BOOST_CHECK_THROW(student.forward_backward(random.batch()), Error);
  }
  student.objective().options() = {};
  constexpr DecoderConfig other = [] {
    DecoderConfig shape = tiny;
    shape.vocab_size = 100;
    return shape;
  }();
  auto teacher = std::make_shared<Decoder<other, LayerNorm, GELU>>(2, Purpose::evaluation);
  teacher->initialize(1);
  student.objective().set_teacher(teacher_of(teacher));
  BOOST_CHECK_THROW(student.forward_backward(random.batch()), Error);
  auto small = make_teacher<Cpu>(1);
  student.objective().set_teacher(teacher_of(small));
  BOOST_CHECK_THROW(student.forward_backward(random.batch()), Error);
}

// With ReLU and only the penalty, more hidden units become 0.
BOOST_AUTO_TEST_CASE(a_penalty_on_hidden_units_makes_zeros) {
  const test::RandomBatch random({3, 9}, tiny.vocab_size, 5);
  const auto zeros = [&](double coefficient) {
    Decoder<tiny, Identity, ReLU, Cpu, OutlierObserver, PreNorm, SparseHidden> model(3);
    model.initialize(3, 0.3);
    model.objective().options().coefficient = coefficient;
    AdamW optimizer(model, {.weight_decay = 0});
    for (int step = 0; step < 60; ++step) {
      model.observer().reset();
      model.forward_backward(random.batch());
      optimizer.step(3e-3);
    }
    return model.observer().zeros()[0];
  };
  BOOST_TEST(zeros(1) > zeros(0) + 0.1);
}

BOOST_AUTO_TEST_SUITE_END()
