#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/fingerprint.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/device/cores.hpp>
#include <lnfree/optim/optimizer.hpp>
#include <lnfree/parallel/communicator.hpp>
#include <lnfree/parallel/observer_sum.hpp>
#include <lnfree/parallel/tree.hpp>

namespace lnfree {

/// to += x.
struct AddElement {
  static constexpr const char* name = "add_gradients";
  static constexpr double operations = 1;
  template <class T>
  LNFREE_HOST_DEVICE void operator()(T x, T& to) const {
    to += x;
  }
};

/// to = x, x = 0.
struct MoveElement {
  static constexpr const char* name = "move_gradients";
  template <class T>
  LNFREE_HOST_DEVICE void operator()(T& x, T& to) const {
    to = x;
    x = T(0);
  }
};

/// Divides the arrays of a model's parameters into pieces of about equal size, one for each possible rank,
/// and assigns them to ranks by recursive halving. In round k, two ranks whose numbers differ only in bit k
/// split what both have; the lower one keeps the lower half. So the pieces of rank r begin at r with its bits
/// reversed.
class Pieces {
 public:
  /// Cuts at multiples of a cache line; within `whole`, at the beginning of a parameter.
  template <class Device>
  Pieces(const ParameterSet<Device>& parameters, int pieces, bool whole_matrices) {
    constexpr Index line = 16;  // as ParameterSet aligns the parameters
    for (int i = 0; i <= pieces; ++i) {
      const Index ideal = parameters.size() * i / pieces / line * line;
      cuts_.push_back(whole_matrices ? nearest_beginning(parameters, ideal) : ideal);
    }
    cuts_.back() = parameters.size();
  }

  /// Number of pieces.
  int count() const { return static_cast<int>(cuts_.size()) - 1; }

  /// Where share number `share` of `ranks` equal shares begins; share == ranks gives the end.
  Index begin(int share, int ranks) const {
    return cuts_[static_cast<std::size_t>(share * (count() / ranks))];
  }

  /// The number of a rank's share in the order of the array.
  static int share_of(int rank, int ranks) {
    int share = 0;
    for (int bit = 1; bit < ranks; bit *= 2) share = 2 * share + ((rank & bit) != 0 ? 1 : 0);
    return share;
  }

  /// Where the pieces begin, and the end.
  const std::vector<Index>& cuts() const { return cuts_; }

 private:
  /// `at`, or, within the range of weights, the nearest beginning or end of a parameter.
  template <class Device>
  static Index nearest_beginning(const ParameterSet<Device>& parameters, Index at) {
    const auto& weights = parameters.range(ParameterKind::weight);
    const Index end = weights.begin + weights.count;
    if (at <= weights.begin || at >= end) return at;
    Index nearest = at - weights.begin < end - at ? weights.begin : end;
    for (const auto& parameter : parameters.all()) {
      if (parameter.kind == ParameterKind::weight && distance(parameter.offset, at) < distance(nearest, at))
        nearest = parameter.offset;
    }
    return nearest;
  }

  static Index distance(Index a, Index b) { return a < b ? b - a : a - b; }

  std::vector<Index> cuts_;
};

/// Exchanges parts of device arrays between ranks.
template <class Device, Communicator C>
class Exchange {
 public:
  using T = typename Device::Accumulator;

  /// For these ranks, each with its own device.
  Exchange(Device& device, C ranks) : device_(device), ranks_(std::move(ranks)) {
    if (ranks_.size() == 1) return;
    received_ = Buffer<Device>(device, piece_bytes);
    if constexpr (by_way_of_host) host_.resize(2 * piece);
  }

  /// Bytes of device memory that it takes.
  static std::size_t bytes(const C& ranks) { return ranks.size() == 1 ? 0 : piece_bytes; }

  /// Sums an array over all ranks. Afterwards each rank has the sums of its own share; the rest of its array
  /// is undefined. Every element is summed by the same tree.
  void reduce_scatter(T* values, const Pieces& pieces) {
    int low = 0, high = ranks_.size();
    for (int distance = 1; distance < ranks_.size(); distance *= 2) {
      const int middle = (low + high) / 2;
      const bool keeps_upper = (ranks_.rank() & distance) != 0;
      const auto lower = range(pieces, low, middle), upper = range(pieces, middle, high);
      const auto& kept = keeps_upper ? upper : lower;
      const auto& given = keeps_upper ? lower : upper;
      T* const received = static_cast<T*>(received_.data());
      swap(distance, values + given.begin, given.count, received, kept.count, [&](Index first, Index count) {
        for_each_element(device_, count, AddElement{}, static_cast<const T*>(received),
                         values + kept.begin + first);
        return received;
      });
      (keeps_upper ? low : high) = middle;
    }
    finish();
  }

  /// Copies each rank's share of an array to all ranks.
  void all_gather(T* values, const Pieces& pieces) {
    int low = Pieces::share_of(ranks_.rank(), ranks_.size()), high = low + 1;
    for (int distance = ranks_.size() / 2; distance >= 1; distance /= 2) {
      const bool has_upper = (ranks_.rank() & distance) != 0;
      const int width = high - low;
      const auto own = range(pieces, low, high);
      const auto other = has_upper ? range(pieces, low - width, low) : range(pieces, high, high + width);
      T* const to = values + other.begin;
      swap(distance, values + own.begin, own.count, to, other.count,
           [&](Index first, Index count) { return to + first + count; });
      (has_upper ? low : high) += has_upper ? -width : width;
    }
    finish();
  }

 private:
  static constexpr bool is_on_host = std::derived_from<Device, Cores>;
  static constexpr bool by_way_of_host = !is_on_host && !ExchangesOnDevice<C>;
  /// Elements in transfer at a time; for direct transfers between GPUs, enough to keep them busy.
  static constexpr Index piece = Index{1} << (is_on_host || by_way_of_host ? 18 : 23);
  static constexpr std::size_t piece_bytes = static_cast<std::size_t>(piece) * sizeof(T);

  struct Range {
    Index begin, count;
  };
  Range range(const Pieces& pieces, int first_share, int end_share) const {
    const Index begin = pieces.begin(first_share, ranks_.size());
    return {begin, pieces.begin(end_share, ranks_.size()) - begin};
  }

  /// Sends `sends` elements to the partner rank and receives `receives`, piece by piece: the first into `to`,
  /// each later one where arrived(first, count) returns.
  template <class Arrived>
  void swap(int distance, const T* from, Index sends, T* to, Index receives, const Arrived& arrived) {
    const int partner = ranks_.rank() ^ distance;
    for (Index first = 0; first < std::max(sends, receives); first += piece) {
      const auto size = [&](Index all) { return std::clamp(all - first, Index{0}, piece); };
      const auto sent = static_cast<std::size_t>(size(sends)) * sizeof(T);
      const auto received = static_cast<std::size_t>(size(receives)) * sizeof(T);
      if constexpr (!is_on_host && !by_way_of_host) {
        ranks_.exchange_on_device(device_.stream().get(), partner, from + std::min(first, sends), sent, to,
                                  received);
      } else if constexpr (is_on_host) {
        ranks_.exchange(partner, from + std::min(first, sends), sent, to, received);
      } else {
        copy_to_host(device_, host_.data(), from + std::min(first, sends), sent);
        ranks_.exchange(partner, host_.data(), sent, host_.data() + piece, received);
        copy_to_device(device_, to, host_.data() + piece, received);
      }
      to = arrived(first, size(receives));
    }
  }

  /// Waits for asynchronous transfers.
  void finish() {
    if constexpr (!is_on_host && !by_way_of_host) ranks_.finish(device_.stream().get());
  }

  Device& device_;
  C ranks_;
  Buffer<Device> received_;
  std::vector<T> host_;
};

/// Data parallelism: ranks with a copy of the model each share the passes of an optimizer step. The result of
/// a step does not depend on the number of ranks.
template <class Model, Communicator C>
class DataParallel {
 public:
  using Device = typename Model::Device;
  using T = typename Device::Accumulator;
  static_assert(!has_ranks<C> || observes_across_ranks<typename Model::Observer>,
                "lnfree: with several processes an observer of passes must offer for_each_sum(f) "
                "(docs/parallel.md)");

  /// For steps of `passes` passes. With `whole_matrices` no weight matrix is split. Throws Error if the ranks
  /// cannot share the passes.
  DataParallel(Model& model, C ranks, int passes, bool whole_matrices)
      : model_(model),
        ranks_(std::move(ranks)),
        leaves_(checked_leaves(ranks_, passes)),
        branch_(Branch::of(ranks_, leaves_)),
        passes_{passes, leaves_},
        pieces_(model.parameters(), C::max_leaves, whole_matrices),
        exchange_(model.device(), ranks_) {
    for (int level = 0; level < branch_.levels(); ++level)
      waiting_.emplace_back(model.device(), model.parameters().gradient_bytes());
  }

  /// Bytes of device memory that it takes for a model with that plan.
  static std::size_t bytes(const MemoryPlan& model, const C& ranks, int passes) {
    const Branch branch = Branch::of(ranks, checked_leaves(ranks, passes));
    return static_cast<std::size_t>(branch.levels()) * model.gradients + Exchange<Device, C>::bytes(ranks);
  }

  /// Number of parts of a step.
  int leaves() const { return leaves_; }
  /// Which parts of the arrays belong to which rank.
  const Pieces& pieces() const { return pieces_; }

  /// The result of the passes of a step.
  struct Step {
    std::vector<double> losses;  ///< Losses of the passes of all ranks, in order.
    int faulty_rank = -1;        ///< The lowest rank whose losses or gradients are not finite; -1: none.
  };

  /// Calls run(pass), which returns a loss, for each pass of this rank, and then sums the gradients of all
  /// ranks. With `share_only` a rank gets the sums only for its own share.
  template <class Run>
  Step gradients(bool observe, bool share_only, const Run& run) {
    std::vector<double> losses;
    [[maybe_unused]] auto& parameters = model_.parameters();
    for (int leaf = 0; leaf < branch_.leaves; ++leaf) {
      if (observe) observed_.begin_leaf(model_.observer());
      const std::int64_t first = passes_.first(branch_.first_leaf + leaf);
      const std::int64_t end = passes_.first(branch_.first_leaf + leaf + 1);
      for (std::int64_t pass = first; pass < end; ++pass) losses.push_back(run(pass));
      if constexpr (has_ranks<C>) {
        if (observe) observed_.end_leaf(model_.observer(), branch_, leaf, end - first);
        branch_.leaf_done(
            leaf,
            [&](int level) {
              for_each_element(model_.device(), parameters.size(), AddElement{},
                               static_cast<const T*>(waiting(level)), parameters.gradients());
            },
            [&](int level) {
              for_each_element(model_.device(), parameters.size(), MoveElement{}, parameters.gradients(),
                               waiting(level));
            });
      }
    }
    if constexpr (!has_ranks<C>) {
      return {std::move(losses)};
    } else {
      const Step step = gathered(std::move(losses));
      if (observe) observed_.finish(model_.observer(), ranks_);
      share_last_pass();
      const std::uint64_t before = ranks_.bytes_sent();
      exchange_.reduce_scatter(parameters.gradients(), pieces_);
      if (!share_only) exchange_.all_gather(parameters.gradients(), pieces_);
      bytes_moved_ += ranks_.bytes_sent() - before;
      return step;
    }
  }

  /// Copies each rank's share of the gradients to all ranks.
  void complete_gradients() { exchange_.all_gather(model_.parameters().gradients(), pieces_); }

  /// The same for the weights, after each rank has updated its share; the gradients are 0 afterwards.
  void complete_weights() {
    auto& parameters = model_.parameters();
    const std::uint64_t before = ranks_.bytes_sent();
    exchange_.all_gather(parameters.masters(), pieces_);
    bytes_moved_ += ranks_.bytes_sent() - before;
    if constexpr (ParameterSet<Device>::has_master_copy)
      convert(model_.device(), parameters.size(), parameters.masters(), parameters.values());
    parameters.count_write();
    parameters.zero_gradients(model_.device());
  }

  /// Bytes of gradients and weights that this rank has sent.
  std::uint64_t bytes_moved() const { return bytes_moved_; }

  /// What this rank's optimizer updates: everything, or its share.
  Share share(bool divided) const {
    Share share;
    share.cuts = pieces_.cuts();
    if (!divided) return share;
    const int ranks = ranks_.size(), own = Pieces::share_of(ranks_.rank(), ranks),
              parts = pieces_.count() / ranks;
    share.begin = pieces_.begin(own, ranks);
    share.end = pieces_.begin(own + 1, ranks);
    share.first_part = own * parts;
    share.end_part = share.first_part + parts;
    share.complete = [this](const std::vector<double>& sums) { return in_order(sums); };
    share.collect = [this](Index offset, Index count, std::size_t bytes_of_one, void* numbers) {
      collect(offset, count, bytes_of_one, static_cast<std::byte*>(numbers));
    };
    return share;
  }

  /// Throws Error on all ranks if a text is not the same on each: "rank 2 <fault> than rank 0".
  void require_equal(const std::string& text, const char* fault) const {
    const std::string digits = fingerprint(text);
    const std::vector<double> own{std::stod("0x" + digits.substr(0, 8)), std::stod("0x" + digits.substr(8))};
    const std::vector<double> all = ranks_.gather(own);
    for (std::size_t rank = 1; rank < all.size() / 2; ++rank) {
      if (all[2 * rank] == all[0] && all[2 * rank + 1] == all[1]) continue;
      throw SharedError("rank " + std::to_string(rank) + " " + fault +
                        " than rank 0: start all ranks with the same options, files and program");
    }
  }

 private:
  /// The numbers of all ranks in the order of their shares.
  std::vector<double> in_order(const std::vector<double>& own) const {
    const std::vector<double> all = ranks_.gather(own);
    std::vector<double> ordered(all.size());
    for (int rank = 0; rank < ranks_.size(); ++rank) {
      const auto to = static_cast<std::ptrdiff_t>(own.size()) * Pieces::share_of(rank, ranks_.size());
      std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(own.size()) * rank, own.size(),
                  ordered.begin() + to);
    }
    return ordered;
  }

  /// Share::collect.
  void collect(Index offset, Index count, std::size_t bytes_of_one, std::byte* numbers) const {
    const int ranks = ranks_.size();
    for (int rank = 1; rank < ranks; ++rank) {
      if (ranks_.rank() != 0 && ranks_.rank() != rank) continue;
      const int share = Pieces::share_of(rank, ranks);
      const Share of_rank{pieces_.begin(share, ranks), pieces_.begin(share + 1, ranks)};
      const auto [first, found] = of_rank.within(offset, count);
      if (found == 0) continue;
      std::byte* const at = numbers + static_cast<std::size_t>(first - offset) * bytes_of_one;
      const std::size_t bytes = static_cast<std::size_t>(found) * bytes_of_one;
      if (ranks_.rank() == 0) {
        ranks_.exchange(rank, nullptr, 0, at, bytes);
      } else {
        ranks_.exchange(0, at, bytes, nullptr, 0);
      }
    }
  }

  static int checked_leaves(const C& ranks, int passes) {
    if (passes < 1) throw Error("accumulate must be at least 1 pass, not " + std::to_string(passes));
    require_fitting_ranks(ranks, passes);
    return leaves_of(passes, C::max_leaves);
  }

  T* waiting(int level) { return static_cast<T*>(waiting_[static_cast<std::size_t>(level)].data()); }

  /// Gathers the losses of all ranks' passes, and which rank has numbers that are not finite.
  Step gathered(std::vector<double> losses) {
    const auto is_finite = [](double x) { return math::is_finite(x); };
    const auto& parameters = model_.parameters();
    const bool sound = std::all_of(losses.begin(), losses.end(), is_finite) &&
                       (ranks_.size() == 1 || is_finite(gradient_norm(model_.device(), parameters)));
    const std::size_t own = losses.size();
    losses.push_back(sound ? 1 : 0);
    const std::vector<double> all = ranks_.gather(losses);
    Step step;
    for (int rank = 0; rank < ranks_.size(); ++rank) {
      const auto first =
          all.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(rank) * (own + 1));
      const auto end = first + static_cast<std::ptrdiff_t>(own);
      step.losses.insert(step.losses.end(), first, end);
      if (*end == 0 && step.faulty_rank < 0) step.faulty_rank = rank;
    }
    return step;
  }

  /// Copies what the objective reports of the last pass from the last rank, which made it.
  void share_last_pass() {
    auto& objective = model_.objective();
    constexpr auto nothing = [](double&) {};
    constexpr bool reports =
        requires { objective.report(model_.parameters(), model_.device(), [](auto&&...) {}); };
    if constexpr (requires { objective.for_each_of_last_pass(nothing); }) {
      objective.for_each_of_last_pass(
          [&](double& number) { ranks_.broadcast(&number, sizeof(number), ranks_.size() - 1); });
    } else {
      static_assert(!reports,
                    "lnfree: with several processes an objective that reports must offer "
                    "for_each_of_last_pass(f) (docs/parallel.md)");
    }
  }

  Model& model_;
  C ranks_;
  int leaves_;
  Branch branch_;
  Division passes_;
  Pieces pieces_;
  Exchange<Device, C> exchange_;
  ObserverSum<typename Model::Observer> observed_;
  std::vector<Buffer<Device>> waiting_;
  std::uint64_t bytes_moved_ = 0;
};

}  // namespace lnfree
