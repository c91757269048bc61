/// Converts the weights of a model between lnfree, Hugging Face's transformers and llm.c. Tensors are
/// renamed, transposed and written one at a time; no model is built.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/folder.hpp>
#include <lnfree/checkpoint/llm_c.hpp>
#include <lnfree/checkpoint/safetensors.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/files.hpp>

#include "command_line.hpp"
#include "convert/found_model.hpp"
#include "convert/hugging_face.hpp"
#include "convert/options.hpp"
#include "convert/tokenizer_file.hpp"

namespace {

using namespace convert;

void write_lnfree(const std::filesystem::path& folder, const FoundModel& model, const Options& options) {
  const Architecture& architecture = model.architecture;
  const bool has_layer_norm =
      architecture.norm == LayerNorm::name || architecture.final_norm == LayerNorm::name;
  if (has_layer_norm && architecture.layer_norm_epsilon != LayerNorm::epsilon) {
    throw Error(options.from.string() + " has a layer_norm_epsilon of " +
                Json(architecture.layer_norm_epsilon).dump() + ", and lnfree's LayerNorm has " +
                Json(LayerNorm::epsilon).dump() + "; no program of lnfree computes this model");
  }
  save_safetensors(folder / "model.safetensors", in_order(model), options.stored_type());
  write_config(folder, to_json(architecture));
}

void write_llm_c(FoundModel model, const Options& options) {
  const std::string difference = llm_c::difference(model.architecture);
  if (!difference.empty())
    throw Error(options.from.string() + " is not a model that llm.c can compute: " + difference);
  drop_objective(model);
  trim_positions(model);
  add_zero_biases(model);
  llm_c::write_model(options.to, model.architecture.sizes, model.tensors, options.stored_type());
}

/// Throws Error if `path` exists and would be overwritten.
void check_free(const std::filesystem::path& path, bool needs_folder) {
  if (!path_exists(path)) return;
  const bool is_there_a_folder = is_folder(path);
  if (needs_folder && !is_there_a_folder)
    throw Error(path.string() + " is not a folder; --to takes the name of a new folder");
  if (!needs_folder && is_there_a_folder)
    throw Error(path.string() + " is a folder; with --format llmc --to takes the name of a new file");
  if (needs_folder && std::filesystem::equivalent(path, "."))
    throw Error(path.string() + " is the current folder; --to takes the name of a new folder");
  if (needs_folder ? !std::filesystem::is_empty(path) : is_file(path) && std::filesystem::file_size(path) > 0)
    throw Error(path.string() + " exists and is not empty; remove it or give --to another name");
}

/// Thrown when a signal has asked the program to stop.
struct Stopped {};

/// Lets a signal stop the program between two tensors, so that it leaves nothing behind.
void heed_signals(FoundModel& model) {
  signals::catch_stop();
  for (auto& [name, tensor] : model.tensors) {
    tensor.data = [data = std::move(tensor.data)] {
      if (signals::stop_signal != 0) throw Stopped();
      return data();
    };
  }
}

void run(const Options& options) {
  const bool to_file = options.format == "llmc";
  check_free(options.to, !to_file);
  FoundModel model = read_model(options.from);
  if (options.context > 0) set_context(model, options.context);
  if (options.fold) fold(model, options.from);
  std::optional<TokenizerFile> tokenizer;
  if (!to_file) tokenizer = find_tokenizer(options, model.architecture);
  const DecoderConfig sizes = model.architecture.sizes;
  std::int64_t numbers = 0;
  for (const auto& [name, tensor] : model.tensors) numbers += tensor.size();
  heed_signals(model);
  std::string reader, of_tokenizer;
  if (to_file) {
    write_llm_c(std::move(model), options);
    reader = "llm.c";
  } else {
    write_checkpoint(options.to, [&](const std::filesystem::path& fresh) {
      if (options.format == "hf") {
        reader = "transformers: " + write_hugging_face(fresh, std::move(model), options);
      } else {
        write_lnfree(fresh, model, options);
        reader = "lnfree";
      }
      if (tokenizer) of_tokenizer = write_tokenizer(fresh, *tokenizer, options.format == "hf", sizes.context);
    });
  }
  std::printf("%s: %d layers of width %d, %lld numbers as %s, for %s%s\n", options.to.c_str(), sizes.layers,
              sizes.width, static_cast<long long>(numbers), options.dtype.c_str(), reader.c_str(),
              of_tokenizer.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine app(
      "Converts the weights of a model between lnfree, Hugging Face's transformers (GPT-2, GPT-NeoX, and "
      "with code of its own any model of lnfree's) and llm.c. Numbers stay what they are, bit for bit, "
      "unless --dtype rounds them.",
      argv);
  Options options;
  app.add_value("--from", options.from, "PATH",
                "The model: a checkpoint/ of lnfree, a folder of transformers' GPT-2 or GPT-NeoX, a "
                ".safetensors file or an index with config.json beside it, or a model file of llm.c")
      ->required();
  app.add_value("--to", options.to, "PATH", "A new folder; with --format llmc, a new file")->required();
  app.add_value("--tokenizer", options.tokenizer, "FILE",
                "tokenizer.json or tokenizer.model of the model's corpus, to be copied; by default the one "
                "beside the weights, if any");
  const auto one_of = [&](const char* name, std::string& value, std::vector<std::string> values,
                          const char* text) {
    app.add_option(name, value, text)
        ->capture_default_str()
        ->type_name("NAME")
        ->check([name = std::string(name), values](const std::string& given) -> std::string {
          if (std::find(values.begin(), values.end(), given) != values.end()) return "";
          std::string all;
          for (std::size_t i = 0; i < values.size(); ++i)
            all += (i == 0 ? "" : i + 1 == values.size() ? " or " : ", ") + values[i];
          return given + " was given, expected " + all;
        });
  };
  one_of(
      "--format", options.format, {"lnfree", "hf", "llmc"},
      "lnfree: model.safetensors and config.json; hf: a folder that transformers loads; llmc: a model file "
      "of llm.c, for a GPT-2 with gelu_new");
  one_of("--dtype", options.dtype, {"float32", "bfloat16"},
         "How numbers are stored. float32 keeps float32, float16 and bfloat16 exactly; bfloat16 rounds to "
         "8 significant bits, to nearest, ties to even");
  app.add_option("--max-shard-size", options.max_shard_size,
                 "With --format hf: several files where the weights are more, such as 500MB")
      ->capture_default_str()
      ->type_name("SIZE")
      ->check([](const std::string& text) {
        return bytes_of(text) > 0 ? "" : text + " is not a size such as 500MB or 5GB";
      });
  app.add_count("--context", options.context, 0,
                "Windows of at most N tokens from now on; 0: the model's own");
  app.add_flag("--fold", options.fold,
               "Fold norms that training has removed into the next matrices: a model without norms");
  app.callback([&] {
    if (!options.tokenizer.empty() && options.format == "llmc")
      throw CLI::ValidationError(
          "--tokenizer cannot be used with --format llmc, whose files hold no tokenizer");
  });
  if (const auto status = app.read(argc, argv)) return *status;
  try {
    run(options);
  } catch (const Stopped&) {
    const int number = signals::stop_signal;
    complain("convert", "stopped by signal " + std::to_string(number) + "; nothing was written");
    return 128 + number;
  } catch (const std::exception& error) {
    return complain("convert", sentence_about(error));
  }
}
