#pragma once

#include <fnmatch.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include <lnfree/core/parse_number.hpp>

#include "signals.hpp"
#include "standard_streams.hpp"

/// The command line of a program in examples/, with --help, and one sentence for each error.
class CommandLine : public CLI::App {
 public:
  /// For the program at `argv[0]`, named after its file. Create it before any file is opened: it secures the
  /// standard streams, and makes writes to a broken pipe or beyond `ulimit -f` fail instead of ending the
  /// program.
  CommandLine(const std::string& description, char** argv)
      : CLI::App(description, std::filesystem::path(argv[0]).filename().string()) {
    keep_standard_streams();
    signals::outlive_readers();
    signals::report_file_size_limit();
    formatter(std::make_shared<Help>());
  }

  /// An option for a text, a path, or several of them; `type` is the name of the value in --help.
  template <class T>
  CLI::Option* add_value(const char* name, T& value, const char* type, const char* text) {
    CLI::Option* const option = add_option(name, value, text)->type_name(type);
    if constexpr (!std::is_same_v<T, std::string>) {
      option->check([](const std::string& path) -> std::string {
        if (path.empty()) return "the name of a file or folder was expected, not an empty one";
        if (path.find('\0') != std::string::npos) return "no name of a file has a NUL byte";
        return "";
      });
      paths_.push_back({name, [&value] {
                          if constexpr (std::is_same_v<T, std::filesystem::path>)
                            return std::vector{value};
                          else
                            return value;
                        }});
    }
    return option;
  }

  /// An option for a file that the program writes. It may not be a file that another option names.
  CLI::Option* add_output(const char* name, std::filesystem::path& value, const char* type,
                          const char* text) {
    outputs_.push_back({name, &value});
    return add_value(name, value, type, text);
  }

  /// Adds --checkpoint, for a program that opens any model.
  void add_checkpoint(std::filesystem::path& value) {
    add_value("--checkpoint", value, "DIR",
              "Folder checkpoint/ of a run, or a Hugging Face GPT-2 or GPT-NeoX")
        ->required();
  }

  /// Adds --tokenizer, for such a program.
  void add_tokenizer(std::filesystem::path& value) {
    add_value("--tokenizer", value, "FILE",
              "tokenizer.json or tokenizer.model of the model's corpus; by default the one in --checkpoint");
  }

  /// An option for a whole number from `least` to `most`, always decimal.
  template <class T>
  CLI::Option* add_count(const char* name, T& value, T least, const char* text,
                         T most = std::numeric_limits<T>::max()) {
    const std::string range = most == std::numeric_limits<T>::max()
                                  ? "of " + std::to_string(least) + " or more"
                                  : "from " + std::to_string(least) + " to " + std::to_string(most);
    return add_option(name, value, text)
        ->capture_default_str()
        ->type_name("N")
        ->transform(number(least, most, "a whole number " + range));
  }

  /// An option for a number from 0 to `most`.
  CLI::Option* add_real(const char* name, double& value, const char* text,
                        double most = std::numeric_limits<double>::max()) {
    std::ostringstream expected;
    expected << "a number ";
    if (most == std::numeric_limits<double>::max()) {
      expected << "of 0 or more";
    } else {
      expected << "from 0 to " << most;
    }
    return add_option(name, value, text)
        ->capture_default_str()
        ->type_name("X")
        ->transform(number(0.0, most, expected.str()));
  }

  /// Reads the arguments. Returns the exit status if the program should end: 0 after --help, 1 after an error
  /// message on standard error.
  std::optional<int> read(int argc, char** argv) {
    std::string fault;
    bool on_command_line = true;
    try {
      parse(argc, argv);
      refuse_to_overwrite();
      return std::nullopt;
    } catch (const CLI::Success& help) {
      exit(help);
      try {
        require_standard_output();
        return 0;
      } catch (const lnfree::Error& error) {
        return complain(get_name(), error.what());
      }
    } catch (const CLI::ConfigError& error) {
      fault = config_fault(error.what());
      on_command_line = false;
    } catch (const CLI::ParseError& error) {
      fault = error.what();
    }
    // A misspelled option is often why another one is missing.
    if (const auto unknown = remaining(); on_command_line && !unknown.empty())
      fault = unknown.front() + " is not an option";
    return complain(get_name(), lnfree::excerpt(fault) + "; --help shows the options");
  }

 private:
  /// An option that names files or folders.
  struct Paths {
    std::string name;
    std::function<std::vector<std::filesystem::path>()> get;
  };

  /// An option that names a file to write.
  struct Output {
    std::string name;
    const std::filesystem::path* path;
  };

  /// Whether writing `output` would replace the file `path`, or one that matches the pattern `path`.
  static bool replaces(const std::filesystem::path& output, const std::filesystem::path& path) {
    std::error_code error;
    if (std::filesystem::exists(output, error) && !std::filesystem::is_regular_file(output, error))
      return false;  // it is written to, not replaced
    const auto place = std::filesystem::weakly_canonical(output, error);
    return (!place.empty() && place == std::filesystem::weakly_canonical(path, error)) ||
           std::filesystem::equivalent(output, path, error) ||
           ::fnmatch(path.c_str(), output.c_str(), FNM_PATHNAME) == 0;
  }

  /// Throws CLI::ParseError if an output is the file of another option.
  void refuse_to_overwrite() const {
    for (const Output& output : outputs_) {
      if (output.path->empty()) continue;
      for (const Paths& other : paths_) {
        if (other.name == output.name) continue;
        for (const std::filesystem::path& path : other.get()) {
          if (!path.empty() && replaces(*output.path, path))
            throw CLI::ValidationError(output.name + " would overwrite " + output.path->string() +
                                       ", the file of " + other.name + "; give another name");
        }
      }
    }
  }

  /// --help without CLI11's notes on flags and checks, which the descriptions cover.
  class Help : public CLI::Formatter {
   public:
    Help() { column_width(32); }

    std::string make_option_name(const CLI::Option* option, bool positional) const override {
      std::string name = CLI::Formatter::make_option_name(option, positional);
      constexpr std::string_view note = "{false}";
      if (const auto at = name.find(note); at != std::string::npos) name.erase(at, note.size());
      return name;
    }

    std::string make_option_opts(const CLI::Option* option) const override {
      if (option->get_type_size() == 0) return "";
      const std::string value = option->get_default_str();
      return " " + option->get_type_name() + (value.empty() ? "" : "=" + value);
    }
  };

  /// Checks that an option's value is a decimal number from `least` to `most`; `expected` describes that.
  /// Leading zeros are removed, since CLI11 would read the number as octal.
  template <class T>
  static CLI::Validator number(T least, T most, const std::string& expected) {
    const auto read = [=](std::string& text) -> std::string {
      const auto value = lnfree::parse_number<T>(text);
      if (!value || !(*value >= least && *value <= most)) return text + " is not " + expected;
      if constexpr (std::is_integral_v<T>) text = std::to_string(*value);
      return "";
    };
    return {read, "", ""};
  }

  /// What is wrong with the file of --config, from CLI11's message.
  std::string config_fault(const std::string& words) const {
    const std::string file = get_config_ptr()->as<std::string>();
    constexpr std::string_view unknown_key = "INI was not able to parse ";
    if (!words.starts_with(unknown_key)) return file + ": " + words;
    std::string key = words.substr(unknown_key.size());
    constexpr std::string_view opens_section = ".++";
    if (key.ends_with(opens_section)) {
      key.erase(key.size() - opens_section.size());
      return file + ": there are no sections such as [" + key + "]";
    }
    return file + ": " + key + " is not an option";
  }

  std::vector<Paths> paths_;
  std::vector<Output> outputs_;
};
