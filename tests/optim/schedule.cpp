#include <lnfree/optim/schedule.hpp>

#include <boost/test/unit_test.hpp>

using namespace lnfree;

BOOST_AUTO_TEST_SUITE(schedule)

BOOST_AUTO_TEST_CASE(follows_the_recipe) {
  struct Row {
    std::int64_t steps, step;
    double rate;
  };
  // Of the recipe's formula, peak 1e-3, floor 1e-7, 5 % warm-up.
  const Row table[] = {{100, 0, 0.0},
                       {100, 1, 0.0002},
                       {100, 4, 0.0008},
                       {100, 5, 0.001},
                       {100, 6, 0.0009894747368421053},
                       {100, 50, 0.0005263631578947369},
                       {100, 99, 1.062526315789477e-05},
                       {100, 100, 1e-07},
                       {32000, 800, 0.0005},
                       {32000, 1599, 0.000999375},
                       {32000, 1600, 0.001},
                       {32000, 16800, 0.0005000499999999999},
                       {32000, 31999, 1.3289144736840864e-07},
                       {30, 1, 0.0005},  // ceil(1.5) = 2 warm-up steps
                       {30, 2, 0.001},
                       {30, 29, 3.581071428571427e-05}};
  for (const Row& row : table) {
    BOOST_TEST(WarmupLinearSchedule{.steps = row.steps}(row.step) == row.rate,
               boost::test_tools::tolerance(1e-12));
  }
}

BOOST_AUTO_TEST_CASE(edges) {
  const WarmupLinearSchedule no_warmup{.warmup_ratio = 0, .steps = 10};
  BOOST_TEST(no_warmup(0) == 1e-3);
  const WarmupLinearSchedule one_step{.steps = 1};
  BOOST_TEST(one_step.warmup_steps() == 1);
  BOOST_TEST(one_step(0) == 0.0);
  const WarmupLinearSchedule all_warmup{.warmup_ratio = 1, .steps = 4};
  BOOST_TEST(all_warmup(3) == 0.75e-3, boost::test_tools::tolerance(1e-12));
  const WarmupLinearSchedule other{.peak = 0.5, .floor = 0.1, .warmup_ratio = 0.5, .steps = 4};
  BOOST_TEST(other(3) == 0.3, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(other(1000) == 0.1, boost::test_tools::tolerance(1e-12));  // past the end the floor stays
}

BOOST_AUTO_TEST_CASE(cosine_and_stable_decay) {
  const auto close = boost::test_tools::tolerance(1e-12);
  const WarmupCosineSchedule cosine{.peak = 1, .floor = 0.2, .warmup_ratio = 0.2, .steps = 10};
  BOOST_TEST(cosine(1) == 0.5);
  BOOST_TEST(cosine(2) == 1.0);
  BOOST_TEST(cosine(6) == 0.6, close);  // half way
  BOOST_TEST(cosine(10) == 0.2, close);
  BOOST_TEST(cosine(99) == 0.2, close);
  const WarmupStableDecaySchedule stable{
      .peak = 1, .floor = 0.2, .warmup_ratio = 0.2, .steps = 10, .decay = {.ratio = 0.5}};
  BOOST_TEST(stable(1) == 0.5);
  for (const std::int64_t step : {2, 4, 6}) BOOST_TEST(stable(step) == 1.0);
  BOOST_TEST(stable(8) == 0.6, close);
  BOOST_TEST(stable(10) == 0.2, close);
}

BOOST_AUTO_TEST_CASE(chosen_at_run_time) {
  static_assert(Schedule<ChosenSchedule>);
  ChosenSchedule chosen{.peak = 0.5, .floor = 0.1, .warmup_ratio = 0.2, .steps = 10};
  BOOST_TEST(chosen.name == "linear");
  const auto close = boost::test_tools::tolerance(1e-12);
  const auto same_as = [&](const auto& schedule) {
    chosen.name = schedule.name;
    for (std::int64_t step = 0; step < 12; ++step) BOOST_TEST(chosen(step) == schedule(step), close);
  };
  same_as(WarmupLinearSchedule{0.5, 0.1, 0.2, 10});
  same_as(WarmupCosineSchedule{0.5, 0.1, 0.2, 10});
  same_as(WarmupStableDecaySchedule{0.5, 0.1, 0.2, 10});
  for (const auto name : ChosenSchedule::names) {
    chosen.name = name;
    BOOST_TEST(chosen(2) == 0.5);
  }
  chosen.name = "none";
  BOOST_CHECK_THROW(chosen(0), Error);
}

BOOST_AUTO_TEST_SUITE_END()
