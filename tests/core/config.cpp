#include <lnfree/core/config.hpp>

#include <boost/test/unit_test.hpp>

using namespace lnfree;

BOOST_AUTO_TEST_SUITE(config)

BOOST_AUTO_TEST_CASE(defaults_are_the_reference_recipe) {
  constexpr DecoderConfig c{
      .layers = 1, .heads = 2, .width = 8, .ffn_width = 32, .context = 4, .vocab_size = 10};
  BOOST_TEST((c.biases == Biases::query_key));
  BOOST_TEST((c.final_norm == FinalNorm::layer_norm));
  BOOST_TEST(c.tied_output);
  BOOST_TEST(c.position_rows() == 4);
  BOOST_TEST(c.head_dim() == 4);
}

BOOST_AUTO_TEST_CASE(named_shapes) {
  BOOST_TEST(gpt2_small.layers == 12);
  BOOST_TEST(gpt2_small.heads == 12);
  BOOST_TEST(gpt2_small.width == 768);
  BOOST_TEST(gpt2_small.ffn_width == 3072);
  BOOST_TEST(gpt2_small.context == 128);
  BOOST_TEST(gpt2_small.vocab_size == 50000);
  BOOST_TEST(gpt2_small.position_rows() == 1024);
  BOOST_TEST(gpt2_small.head_dim() == 64);
  BOOST_TEST(demo.width % demo.heads == 0);
  BOOST_TEST(tiny.position_rows() == 11);
}

BOOST_AUTO_TEST_CASE(clean_changes_the_final_norm_alone) {
  DecoderConfig expected = gpt2_small;
  expected.final_norm = FinalNorm::same_as_norm;
  BOOST_TEST((clean(gpt2_small) == expected));
  BOOST_TEST((clean(gpt2_small) != gpt2_small));
}

BOOST_AUTO_TEST_CASE(initialization_scales_with_the_width) {
  BOOST_TEST(gpt2_small.init_std() == 0.02, boost::test_tools::tolerance(1e-15));
  DecoderConfig narrow = gpt2_small;
  narrow.width = 192;  // a quarter: twice the deviation
  BOOST_TEST(narrow.init_std() == 0.04, boost::test_tools::tolerance(1e-15));
}

BOOST_AUTO_TEST_SUITE_END()
