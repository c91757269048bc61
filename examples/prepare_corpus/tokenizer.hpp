#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/data/corpus.hpp>
#include <lnfree/data/document_sample.hpp>
#include <lnfree/data/tokenizer.hpp>

#include "options.hpp"
#include "progress.hpp"

namespace prepare_corpus {

/// The token after each document, or nothing if documents are cut into windows. Throws Error if the tokenizer
/// has none.
inline std::optional<std::int32_t> end_of_text(const Options& options, const lnfree::Tokenizer& tokenizer) {
  if (!options.packs()) return std::nullopt;
  const std::string where = options.tokenizer.empty() ? "the trained tokenizer" : name_of(options.tokenizer);
  if (!options.end_of_text.empty()) {
    if (const auto id = tokenizer.find(options.end_of_text)) return id;
    throw lnfree::Error(where + " has no token " + lnfree::excerpt(options.end_of_text) +
                        "; --end-of-text takes the name of one that it has.");
  }
  if (const auto id = tokenizer.end_of_text()) return id;
  throw lnfree::Error(where +
                      " has no end-of-text token with a known name, which --chunking packed puts between "
                      "documents; name one of its tokens with --end-of-text.");
}

/// The given tokenizer, or one that is trained on documents of the corpus. The report then says on how much
/// text. Throws Error if the given one has another vocabulary than was asked for, or if no document is left
/// for training.
inline lnfree::Tokenizer make_tokenizer(const Options& options, const lnfree::Corpus& corpus, json& report) {
  if (!options.tokenizer.empty()) {
    auto tokenizer = lnfree::Tokenizer::load(options.tokenizer);
    if (options.vocab_size != 0 && options.vocab_size != tokenizer.vocab_size())
      throw lnfree::Error(
          name_of(options.tokenizer) + " has a vocabulary of " + std::to_string(tokenizer.vocab_size()) +
          ", not of " + std::to_string(options.vocab_size) + "; leave --vocab-size out or give that number.");
    return tokenizer;
  }
  Progress reading("reading", corpus.input_bytes());
  lnfree::DocumentSample sample(options.sample_bytes);
  const auto counts = corpus.visit([&](const lnfree::Document& document) {
    if (!document.held_out) sample.add(document);
    reading.update(document.input_bytes);
  });
  if (counts.train == 0)
    throw lnfree::Error("no document is left for training: all " + count(counts.held_out, "document") +
                        " are held out; lower --held-out.");
  reading.finish(count(counts.seen, "document") + ", " + std::to_string(counts.kept) + " kept, " +
                 std::to_string(counts.held_out) + " of them held out");
  Progress training("training the tokenizer on " + std::to_string(sample.bytes()) + " bytes", 1);
  report["tokenizer_sample_bytes"] = sample.bytes();
  const std::string packed =
      options.end_of_text.empty() ? lnfree::Tokenizer::ends_of_text[0] : options.end_of_text;
  auto tokenizer =
      lnfree::Tokenizer::train(sample.take(), options.vocab_size, options.packs() ? packed : std::string());
  training.finish(count(tokenizer.vocab_size(), "piece"));
  return tokenizer;
}

}  // namespace prepare_corpus
