#include "lnfree/train/checkpoint.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/tensors.hpp"
#include "train/support.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

using Plain = TinyModel<Identity, GELU>;

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint)

BOOST_AUTO_TEST_CASE(a_model_for_evaluation_takes_the_weights_of_a_checkpoint) {
  TemporaryFolder folder;
  Plain model(1);
  model.initialize(5);
  save_checkpoint(folder / "c", model, AdamW<Plain>(model), {});
  Plain reader(1, Purpose::evaluation);
  BOOST_CHECK_EXCEPTION(AdamW<Plain>{reader}, Error, contains("AdamW", "Purpose::training"));
  load_checkpoint(folder / "c", reader);
  BOOST_TEST((weights(reader) == weights(model)));
  TinyModel<Identity, ReLU> relu(1);
  const auto before = weights(relu);
  BOOST_CHECK_EXCEPTION(load_checkpoint(folder / "c", relu), Error, contains("activation_function", "gelu"));
  BOOST_TEST((weights(relu) == before));
}

BOOST_AUTO_TEST_CASE(a_checkpoint_restores_model_and_optimizer) {
  TemporaryFolder folder;
  Plain model(1), other(1);
  model.initialize(5);
  AdamW<Plain> optimizer(model), restored(other);
  const std::vector<std::int32_t> tokens{1, 2, 3, 4}, targets{2, 3, 4, -1};
  const Batch batch{{1, 4}, tokens, targets};
  const auto step = [&](Plain& m, AdamW<Plain>& o) {
    m.forward_backward(batch);
    return o.step(1e-2);
  };
  for (int i = 0; i < 3; ++i) step(model, optimizer);
  save_checkpoint(folder / "c/", model, optimizer, {{"step", 3}});
  load_checkpoint(folder / "c", other, restored);
  BOOST_TEST(restored.updates() == 3);
  BOOST_TEST((weights(other) == weights(model)));
  for (int i = 0; i < 3; ++i) BOOST_TEST(step(model, optimizer) == step(other, restored));
  BOOST_TEST((weights(other) == weights(model)));
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 3);
}

BOOST_AUTO_TEST_CASE(a_checkpoint_replaces_the_last_one_and_leaves_nothing_else) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  folder.write(".c.tmp/left-over", "by a killed process");
  for (int step = 0; step < 2; ++step) {
    save_checkpoint(folder / "c", model, optimizer, {{"step", step}});
    BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == step);
    BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
    BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder / "c"), {}) == 4);
  }
}

// The state after a process dies while saving on a file system that cannot exchange two folders.
BOOST_AUTO_TEST_CASE(a_checkpoint_that_was_being_replaced_is_found) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  const auto names = [&] {
    std::vector<std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
      all.push_back(entry.path().filename());
    std::sort(all.begin(), all.end());
    return all;
  };
  const auto leave = [&](int next) {
    save_checkpoint(folder / "c.next", model, optimizer, {{"step", next}});
    std::filesystem::rename(folder / "c", folder / "aside");
    std::filesystem::create_directory(folder / "c");
    std::filesystem::rename(folder / "aside/model.safetensors", folder / "c/model.safetensors");
    std::filesystem::remove_all(folder / "aside");
  };
  save_checkpoint(folder / "c", model, optimizer, {{"step", 1}});
  leave(2);
  // Reading changes nothing.
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 2);
  BOOST_CHECK_NO_THROW(load_checkpoint(folder / "c", model, optimizer));
  BOOST_TEST((names() == std::vector<std::string>{"c", "c.next"}));
  recover_checkpoint(folder / "c");
  BOOST_TEST((names() == std::vector<std::string>{"c"}));
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 2);
  BOOST_CHECK_NO_THROW(load_checkpoint(folder / "c", model, optimizer));

  // The next save also repairs it, and its own checkpoint is the valid one.
  leave(3);
  save_checkpoint(folder / "c", model, optimizer, {{"step", 4}});
  BOOST_TEST((names() == std::vector<std::string>{"c"}));
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 4);

  // One that was being removed is not valid.
  save_checkpoint(folder / "c.next", model, optimizer, {{"step", 5}});
  std::filesystem::remove(folder / "c.next/trainer.json");
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 4);
  recover_checkpoint(folder / "c");
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 4);
}

BOOST_AUTO_TEST_CASE(a_checkpoint_behind_a_link_stays_behind_it) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  std::filesystem::create_directory(folder / "disk");
  std::filesystem::create_symlink("disk/c/", folder / "second");
  std::filesystem::create_symlink("second", folder / "first");
  for (int step = 0; step < 2; ++step) {
    save_checkpoint(folder / "first", model, optimizer, {{"step", step}});
    BOOST_TEST(read_checkpoint_state(folder / "first")["step"] == step);
    BOOST_TEST(read_checkpoint_state(folder / "disk/c")["step"] == step);
    BOOST_TEST(std::filesystem::is_symlink(folder / "first"));
    BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 3);
    BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder / "disk"), {}) == 1);
  }
}

BOOST_AUTO_TEST_CASE(a_checkpoint_is_not_written_where_something_is_in_the_way) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  const auto refused = [&](const std::string& name, auto... words) {
    BOOST_CHECK_EXCEPTION(save_checkpoint(folder / name, model, optimizer, {}), Error,
                          contains(name.substr(0, 50), words...));
  };
  std::filesystem::create_symlink("loop", folder / "loop");
  refused("loop", "Too many levels");
  refused("loop/c", "Too many levels");
  refused(std::string(300, 'x'), "too long");
  folder.write(".a.tmp", "a file");
  refused("a", ".a.tmp", "is taken");
  folder.write(".b.tmp/folder/file", "of somebody else");
  refused("b", ".b.tmp", "is taken");
  BOOST_TEST(std::filesystem::exists(folder / ".b.tmp/folder/file"));
  {
    const PartFolder part(folder / "c");
    refused("c", "another process");
    BOOST_TEST(std::filesystem::exists(part.path()));
  }
  folder.write(".c.tmp/left-over", "by a killed process");
  remove_part(folder / "c");
  BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 3);
  save_checkpoint(folder / "new/c", model, optimizer, {{"step", 1}});
  BOOST_TEST(read_checkpoint_state(folder / "new/c")["step"] == 1);
}

BOOST_AUTO_TEST_CASE(a_save_that_fails_leaves_the_last_checkpoint) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  save_checkpoint(folder / "c", model, optimizer, {{"step", 1}});
  folder.write("f/file", "in the way");
  BOOST_CHECK_EXCEPTION(save_checkpoint(folder / "f/file/c", model, optimizer, {}), Error,
                        contains("cannot be created", "f/file"));
  // JSON cannot hold what is not UTF-8: the save dies after the weights are written.
  BOOST_CHECK_THROW(save_checkpoint(folder / "c", model, optimizer, {{"step", "\xff"}}), std::exception);
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 1);
  BOOST_TEST(!std::filesystem::exists(folder / ".c.tmp"));
  Plain other(1);
  AdamW<Plain> restored(other);
  BOOST_CHECK_NO_THROW(load_checkpoint(folder / "c", other, restored));
}

BOOST_AUTO_TEST_CASE(damaged_checkpoints_are_refused) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  const auto refused = [&](auto... words) {
    BOOST_CHECK_EXCEPTION(load_checkpoint(folder / "c", model, optimizer), Error, contains(words...));
  };
  refused("no checkpoint to resume from", "trainer.json");
  save_checkpoint(folder / "c", model, optimizer, {});
  const std::string state = read_file(folder / "c/trainer.json");
  folder.write("c/trainer.json", "");
  refused("trainer.json", "damaged");
  folder.write("c/trainer.json", "{}");
  refused("trainer.json", "damaged", "updates");
  folder.write("c/trainer.json", R"({"updates": "many"})");
  refused("trainer.json", "damaged", "updates");
  folder.write("c/trainer.json", R"({"updates": -1})");
  refused("trainer.json", "damaged", "updates");
  folder.write("c/trainer.json", state);

  // The same tensors, another function.
  TinyModel<Identity, ReLU> relu(1);
  AdamW<TinyModel<Identity, ReLU>> of_relu(relu);
  BOOST_CHECK_EXCEPTION(load_checkpoint(folder / "c", relu, of_relu), Error,
                        contains("activation_function", "gelu", "relu"));

  auto moments = tensors_of(folder / "c/optimizer.safetensors");
  named(moments, "v.ln_f.bias").name = "v.other";
  save_safetensors(folder / "c/optimizer.safetensors", moments);
  refused("optimizer.safetensors", "v.ln_f.bias");
  const std::string whole = read_file(folder / "c/optimizer.safetensors");
  folder.write("c/optimizer.safetensors", whole.substr(0, whole.size() - 4));
  refused("optimizer.safetensors", "truncated");
}

BOOST_AUTO_TEST_SUITE_END()
