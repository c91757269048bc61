#include "lnfree/parallel/launched_process.hpp"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

using namespace lnfree;

namespace {

using Variables = std::vector<std::pair<std::string, std::string>>;

constexpr const char* names[] = {"OMPI_COMM_WORLD_SIZE",
                                 "OMPI_COMM_WORLD_RANK",
                                 "OMPI_COMM_WORLD_LOCAL_RANK",
                                 "WORLD_SIZE",
                                 "RANK",
                                 "LOCAL_RANK",
                                 "PMI_SIZE",
                                 "PMI_RANK",
                                 "MPI_LOCALRANKID",
                                 "SLURM_STEP_NUM_TASKS",
                                 "SLURM_PROCID",
                                 "SLURM_LOCALID"};

/// The result with only these variables in the environment.
LaunchedProcess found_in(const Variables& variables) {
  for (const char* name : names) ::unsetenv(name);
  for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  return LaunchedProcess::from_environment();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(launched_process)

BOOST_AUTO_TEST_CASE(every_launcher_is_understood) {
  const LaunchedProcess alone =
      found_in({{"SLURM_PROCID", "3"}, {"SLURM_NTASKS", "8"}});  // in sbatch, without srun
  BOOST_TEST(alone.size == 1);
  BOOST_TEST(alone.rank == 0);
  for (int first = 0; first < 12; first += 3) {
    const LaunchedProcess one = found_in(
        {{names[first], "8"}, {names[first + 1], "5"}, {names[first + 2], "1"}, {"SLURM_NTASKS", "1"}});
    BOOST_TEST(one.size == 8);
    BOOST_TEST(one.rank == 5);
    BOOST_TEST(one.local_rank == 1);
  }
  // mpirun within a step of srun.
  const LaunchedProcess inner = found_in({{"SLURM_STEP_NUM_TASKS", "1"},
                                          {"SLURM_PROCID", "0"},
                                          {"SLURM_LOCALID", "0"},
                                          {"OMPI_COMM_WORLD_SIZE", "2"},
                                          {"OMPI_COMM_WORLD_RANK", "1"},
                                          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}});
  BOOST_TEST(inner.size == 2);
  BOOST_TEST(inner.rank == 1);
}

BOOST_AUTO_TEST_CASE(numbers_that_make_no_sense_are_refused) {
  const auto is_told = [](const Error& error) {
    return std::string(error.what()).find("the environment does not say which process this is: WORLD_SIZE") ==
           0;
  };
  for (const Variables& wrong : {Variables{{"WORLD_SIZE", "2"}},
                                 {{"WORLD_SIZE", "2"}, {"RANK", "1"}},
                                 {{"WORLD_SIZE", "2"}, {"RANK", "2"}, {"LOCAL_RANK", "0"}},
                                 {{"WORLD_SIZE", "2"}, {"RANK", "0"}, {"LOCAL_RANK", "1"}},
                                 {{"WORLD_SIZE", "2"}, {"RANK", "-1"}, {"LOCAL_RANK", "0"}},
                                 {{"WORLD_SIZE", "two"}, {"RANK", "0"}, {"LOCAL_RANK", "0"}},
                                 {{"WORLD_SIZE", "0"}, {"RANK", "0"}, {"LOCAL_RANK", "0"}},
                                 {{"WORLD_SIZE", "99999999999"}, {"RANK", "0"}, {"LOCAL_RANK", "0"}}})
    BOOST_CHECK_EXCEPTION(found_in(wrong), Error, is_told);
  found_in({});
}

BOOST_AUTO_TEST_SUITE_END()
