#include "lnfree/checkpoint/safetensors.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"

using lnfree::Error;
using lnfree::NamedTensor;
using lnfree::SafetensorsFile;
using lnfree::save_safetensors;

namespace {

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// A file built byte by byte, not by the writer under test.
std::string raw_file(const std::string& header, const std::string& data = "") {
  return bytes_of(std::vector<std::uint64_t>{header.size()}) + header + data;
}

/// A header of one tensor "w".
std::string header(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

/// Opens a file of these bytes, which must be refused with a message that names it and contains all `words`.
template <class... Words>
void check_refused(const std::string& bytes, Words... words) {
  TemporaryFolder folder;
  const auto path = folder.write("bad.safetensors", bytes);
  BOOST_CHECK_EXCEPTION(SafetensorsFile::open(path), Error, contains("bad.safetensors", words...));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(safetensors)

BOOST_AUTO_TEST_CASE(what_is_written_is_read_back) {
  TemporaryFolder folder;
  const std::vector<float> matrix{1.5f, -0.0f, 3e-45f, std::numeric_limits<float>::max(), -7, 0.1f};
  save_safetensors(folder / "a.safetensors", {{"matrix", {2, 3}, [&] { return matrix; }},
                                              {"scalar", {}, [] { return std::vector<float>{42}; }},
                                              {"empty", {0, 5}, [] { return std::vector<float>{}; }},
                                              {"last", {1}, [] { return std::vector<float>{-1}; }}});
  const auto file = SafetensorsFile::open(folder / "a.safetensors");
  BOOST_TEST(file.tensors().size() == 4u);
  BOOST_TEST(file.tensors()[0].name == "matrix");
  BOOST_TEST(file.tensors()[0].dtype == "F32");
  BOOST_TEST(file.tensors()[0].shape == (std::vector<lnfree::Index>{2, 3}), boost::test_tools::per_element());
  const auto read = file.read("matrix");
  BOOST_TEST(read.size() == matrix.size());
  BOOST_TEST(std::memcmp(read.data(), matrix.data(), matrix.size() * sizeof(float)) == 0);
  BOOST_TEST(file.read("scalar") == std::vector<float>{42}, boost::test_tools::per_element());
  BOOST_TEST(file.read("empty").empty());
  BOOST_TEST(file.read("last")[0] == -1);
  BOOST_TEST(!file.contains("__metadata__"));
  BOOST_CHECK_EXCEPTION(file.read("absent"), Error, contains("a.safetensors", "absent"));
}

BOOST_AUTO_TEST_CASE(the_file_is_laid_out_as_the_format_says) {
  TemporaryFolder folder;
  save_safetensors(folder / "a.safetensors", {{"x", {2}, [] { return std::vector<float>{1, 2}; }},
                                              {"y", {1, 1}, [] { return std::vector<float>{3}; }}});
  const std::string file = read_file(folder / "a.safetensors");
  std::uint64_t size = 0;
  std::memcpy(&size, file.data(), 8);
  BOOST_TEST(size % 8 == 0u);  // the numbers are aligned
  const auto json = lnfree::Json::parse(file.substr(8, size));
  BOOST_TEST(json["__metadata__"]["format"] == "pt");  // without it transformers refuses the file
  BOOST_TEST(json["y"].dump() == R"({"dtype":"F32","shape":[1,1],"data_offsets":[8,12]})");
  BOOST_TEST(file.substr(8 + size) == bytes_of(std::vector<float>{1, 2, 3}));
}

BOOST_AUTO_TEST_CASE(a_write_that_fails_leaves_the_old_file) {
  TemporaryFolder folder;
  const auto path = folder.write("a.safetensors", "the old one");
  const NamedTensor broken{"x", {1}, []() -> std::vector<float> { throw Error("the device is gone"); }};
  BOOST_CHECK_THROW(save_safetensors(path, {broken}), Error);
  BOOST_TEST(read_file(path) == "the old one");
  BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

BOOST_AUTO_TEST_CASE(messages_quote_briefly) {
  TemporaryFolder folder;
  const std::string data(4, '\0'), length(1'000'000, 'x');
  std::string extents = "1";
  for (int i = 0; i < 100'000; ++i) extents += ",1";
  for (const auto& text : {header("F32", "[" + extents + ",2]", "[0,4]"), header(length, "[1]", "[0,4]"),
                           R"({")" + length + R"(":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})"}) {
    const auto path = folder.write("a.safetensors", raw_file(text, data));
    BOOST_CHECK_EXCEPTION(SafetensorsFile::open(path).read("w"), Error,
                          [](const Error& error) { return std::string_view(error.what()).size() < 1500; });
  }
}

BOOST_AUTO_TEST_CASE(doubles_are_read) {
  TemporaryFolder folder;
  const auto data = bytes_of(std::vector<double>{0.1, -1e300, 1e-300});
  const auto path = folder.write("a.safetensors", raw_file(header("F64", "[3]", "[0,24]"), data));
  const auto read = SafetensorsFile::open(path).read("w");
  BOOST_TEST(read[0] == 0.1f);
  BOOST_TEST(read[1] == -std::numeric_limits<float>::infinity());
  BOOST_TEST(read[2] == 0.0f);
}

BOOST_AUTO_TEST_CASE(half_precision_is_read) {
  TemporaryFolder folder;
  const auto data = bytes_of(
      std::vector<std::uint16_t>{0x3c00, 0xc000, 0x3555, 0x7bff, 0x0001, 0x8400, 0x7c00, 0xfc00, 0x8000});
  const auto path = folder.write("a.safetensors", raw_file(header("F16", "[9]", "[0,18]"), data));
  const auto read = SafetensorsFile::open(path).read("w");
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> expected{
      1, -2, 0.333251953125f, 65504, std::ldexp(1.f, -24), -std::ldexp(1.f, -14), infinity, -infinity, -0.f};
  BOOST_TEST(read == expected, boost::test_tools::per_element());
  BOOST_TEST(std::signbit(read[8]));

  const auto nan = folder.write(
      "b.safetensors", raw_file(header("F16", "[1]", "[0,2]"), bytes_of(std::vector<std::uint16_t>{0x7e00})));
  BOOST_TEST(std::isnan(SafetensorsFile::open(nan).read("w")[0]));
}

BOOST_AUTO_TEST_CASE(bfloat_is_read) {
  TemporaryFolder folder;
  const auto data = bytes_of(std::vector<std::uint16_t>{0x3f80, 0xc049, 0x7f80, 0x0001});
  const auto path = folder.write("a.safetensors", raw_file(header("BF16", "[2,2]", "[0,8]"), data));
  const std::vector<float> expected{1, -3.140625f, std::numeric_limits<float>::infinity(),
                                    std::ldexp(1.f, -133)};
  BOOST_TEST(SafetensorsFile::open(path).read("w") == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_is_no_safetensors_file_is_refused) {
  TemporaryFolder folder;
  BOOST_CHECK_EXCEPTION(SafetensorsFile::open(folder / "none"), Error, contains("cannot read", "none"));
  BOOST_CHECK_EXCEPTION(SafetensorsFile::open(folder.path()), Error, contains("is not a file"));
  check_refused("", "it has only 0 bytes");
  check_refused("1234567", "it has only 7 bytes");
  check_refused(raw_file("not JSON"), "not a JSON object");
  check_refused(raw_file("[1, 2]"), "not a JSON object");
  check_refused(raw_file(R"({"w":)"), "not a JSON object");
  check_refused(raw_file("{\"\xff\":1}"), "not a JSON object");
}

BOOST_AUTO_TEST_CASE(a_header_that_is_longer_than_the_file_is_refused) {
  const std::string whole = raw_file(header("F32", "[2]", "[0,8]"), std::string(8, '\0'));
  const auto claims = [](std::uint64_t size) { return bytes_of(std::vector<std::uint64_t>{size}) + "{}"; };
  check_refused(whole.substr(0, 40), "truncated", "a file of 40");
  check_refused(claims(3), "header of 3 bytes", "a file of 10");
  check_refused(claims(std::uint64_t{1} << 40), "truncated");
  for (const std::uint64_t size : {~std::uint64_t{0}, ~std::uint64_t{0} - 7, std::uint64_t{1} << 63})
    check_refused(claims(size), "truncated", std::to_string(size));
}

BOOST_AUTO_TEST_CASE(a_truncated_file_is_refused) {
  const std::string whole = raw_file(header("F32", "[2,2]", "[0,16]"), std::string(16, '\0'));
  TemporaryFolder folder;
  BOOST_CHECK_NO_THROW(SafetensorsFile::open(folder.write("whole", whole)));
  check_refused(whole.substr(0, whole.size() - 1), "tensor w", "up to 16", "holds 15", "truncated");
}

BOOST_AUTO_TEST_CASE(offsets_that_do_not_fit_are_refused) {
  const std::string data(64, '\0');
  check_refused(raw_file(header("F32", "[2]", "[60,68]"), data), "tensor w", "up to 68", "holds 64");
  check_refused(raw_file(header("F32", "[2]", "[0,12]"), data), "needs 8 bytes", "[0, 12]");
  check_refused(raw_file(header("F64", "[2]", "[0,8]"), data), "needs 16 bytes");
  check_refused(raw_file(header("F32", "[2]", "[8,0]"), data), "tensor w", "[8, 0]");
  check_refused(raw_file(header("F32", "[2]", "[18446744073709551608,18446744073709551615]"), data),
                "tensor w");
  check_refused(raw_file(header("F32", "[2]", "[18446744073709551608,0]"), data), "tensor w");
}

BOOST_AUTO_TEST_CASE(tensors_that_share_bytes_are_refused) {
  const auto two = [](const std::string& first, const std::string& second) {
    const std::string entry = R"({"dtype":"F32","shape":[2],"data_offsets":)";
    return raw_file(R"({"a":)" + entry + first + R"(},"b":)" + entry + second + "}}", std::string(16, '\0'));
  };
  check_refused(two("[8,16]", "[4,12]"), "tensors b and a overlap");
  check_refused(two("[0,8]", "[0,8]"), "overlap");
  TemporaryFolder folder;
  BOOST_CHECK_NO_THROW(SafetensorsFile::open(folder.write("apart", two("[8,16]", "[0,8]"))));
}

// The file has none of these bytes: if the memory were allocated, the test would die.
BOOST_AUTO_TEST_CASE(impossible_shapes_are_refused) {
  for (const std::string shape :
       {"[9223372036854775807]", "[4294967296,4294967296]", "[2147483648,2147483648,4]",
        "[18446744073709551615]", "[4611686018427387905]", "[0,9223372036854775807,18446744073709551615]"})
    check_refused(raw_file(header("F32", shape, "[0,4]"), "1234"), "tensor w", "shape");
  check_refused(raw_file(header("F32", "[1000000000000]", "[0,4000000000000]"), "1234"), "truncated");
}

BOOST_AUTO_TEST_CASE(incomplete_entries_are_refused) {
  for (const std::string entry :
       {R"(5)", R"([])", R"({})", R"({"dtype":"F32","shape":[1]})", R"({"dtype":"F32","data_offsets":[0,4]})",
        R"({"dtype":1,"shape":[1],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":["1"],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":[1],"data_offsets":[0]})",
        R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})",
        R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,8]})"})
    check_refused(raw_file(R"({"w":)" + entry + "}", "1234"), "tensor w", "must give");
}

BOOST_AUTO_TEST_CASE(other_types_are_passed_over_and_not_read) {
  TemporaryFolder folder;
  for (const std::string type : {"I64", "BOOL", "F8_E4M3"}) {
    const auto file = SafetensorsFile::open(
        folder.write("a.safetensors", raw_file(header(type, "[2]", "[0,8]"), "12345678")));
    BOOST_TEST(file.contains("w"));
    BOOST_CHECK_EXCEPTION(file.read("w"), Error, contains("a.safetensors", "tensor w", type, "F32"));
  }
  check_refused(raw_file(header("I64", "[1]", "[0,9]"), "12345678"), "tensor w", "truncated");
}

BOOST_AUTO_TEST_SUITE_END()
